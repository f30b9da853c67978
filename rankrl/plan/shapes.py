"""The shape of a model, counted by its config, for which no weight is made, or by the model that a run has loaded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config
from transformers.pytorch_utils import Conv1D

from rankrl.plan.arithmetic import Shape
from rankrl.run.models import is_adapter
from rankrl.run.tiny_gpt2 import TINY_GPT2

_LLAMA = {"vocab_size": 128_256, "intermediate_size": 8192, "num_key_value_heads": 8, "tie_word_embeddings": True}
# The models of arXiv 2510.20150, so that a plan needs no network: the numbers of their config.json.
PAPER_MODELS: dict[str, PretrainedConfig] = {
    "Qwen2.5-0.5B": Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
    ),
    "Llama-3.2-1B": LlamaConfig(
        **_LLAMA, hidden_size=2048, num_hidden_layers=16, num_attention_heads=32, max_position_embeddings=131_072
    ),
    "Llama-3.2-3B": LlamaConfig(
        **_LLAMA, hidden_size=3072, num_hidden_layers=28, num_attention_heads=24, max_position_embeddings=131_072
    ),
}


def load_config(name_or_path: str | None) -> PretrainedConfig:
    """The config of a model: of a directory, of one of the paper's models by name, or from the Hub.

    Raises:
        ValueError: for no name, an adapter, a model that cannot be found, or one with code of its own.
    """
    if not name_or_path or name_or_path == TINY_GPT2:
        raise ValueError(
            f"model_name_or_path is {name_or_path!r}; name the model that is trained, e.g. --model_name_or_path "
            f"Qwen/Qwen2.5-0.5B-Instruct: a directory with config.json, a name on the Hub, or, offline, one of "
            f"{', '.join(PAPER_MODELS)}."
        )
    if is_adapter(name_or_path):
        raise ValueError(f"{name_or_path} holds an adapter; name its base model as --model_name_or_path instead.")
    if (known := name_or_path.rpartition("/")[2].removesuffix("-Instruct")) in PAPER_MODELS and not Path(
        name_or_path
    ).exists():
        return PAPER_MODELS[known]
    try:
        return AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"{name_or_path} brings code of its own, which a plan does not run. It may train."
            ) from error
        raise ValueError(
            f"no config of {name_or_path!r} was found: it is no directory with a config.json, and the Hub did not give "
            f"one. For a stage that has not run yet, name the model that it begins from, e.g. one of "
            f"{', '.join(PAPER_MODELS)}: --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct."
        ) from error


def shape_of(config: PretrainedConfig, name: str, adapted: str | Sequence[str] | None = "all-linear") -> Shape:
    """Count a model's weights on torch's meta device, where none is stored.

    Args:
        config: of a causal language model.
        name: for people.
        adapted: which linear layers LoRA adapts: `all-linear`, or the ends of their names.

    Returns:
        Its shape.

    Raises:
        ValueError: if nothing has one of the names, or the model has no attention that could be planned.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    linears = _linears(model)
    chosen = [sizes for path, sizes in linears.items() if _is_adapted(path, adapted)]
    if not chosen:
        raise ValueError(f"lora_target_modules is {adapted!r}, and no linear layer of {name} ends so.")
    return _counted(model, name, list(linears.values()), chosen)


def shape_of_model(model: Any, name: str) -> Shape:
    """The shape of a model that is loaded, quantised or spread over processes (ZeRO-3): no weight is gathered.

    Args:
        model: with its adapter, if it has one: `adapted` are then the layers that this one adapts.
        name: for people.

    Returns:
        Its shape, without the weights of the adapter.

    Raises:
        ValueError: if the model has no attention that could be planned.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    adapted = [(module.in_features, module.out_features) for module in base.modules() if isinstance(module, LoraLayer)]
    return _counted(base, name, list(_linears(base).values()), adapted)


def _counted(model: Any, name: str, linears: list[tuple[int, int]], adapted: list[tuple[int, int]]) -> Shape:
    text = model.config.get_text_config()
    heads, layers = (getattr(text, key, None) for key in ("num_attention_heads", "num_hidden_layers"))
    if not isinstance(heads, int) or not isinstance(layers, int):
        raise ValueError(
            f"{name} ({model.config.model_type}) says no num_attention_heads and num_hidden_layers for all of its "
            "layers, so it cannot be planned: a plan knows decoders with attention in every layer, as GPT-2, Llama "
            "and Qwen. It may train all the same."
        )
    return Shape(
        name=name,
        parameters=_weights(model),
        linears=tuple((*sizes, count) for sizes, count in Counter(linears).items()),
        adapted=tuple((*sizes, count) for sizes, count in Counter(adapted).items()),
        layers=layers,
        hidden=text.hidden_size,
        intermediate=getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * text.hidden_size,
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        vocabulary=text.vocab_size,
        gated=any(path.endswith(("gate_proj", "gate_up_proj")) for path, _ in model.named_modules()),
    )


def _weights(model: Any) -> int:
    """All weights, tied ones once, those of an adapter left out.

    A linear layer has those of its sizes, in however many bits they are packed. Of what ZeRO-3 spreads, `ds_numel` is
    the whole.
    """
    found = {}
    for _, module in _own_modules(model):
        sizes = _sizes(module)
        for name, weight in module.named_parameters(recurse=False):
            whole = math.prod(sizes) if sizes and name == "weight" else getattr(weight, "ds_numel", weight.numel())
            found[id(weight)] = whole
    return sum(found.values())


def _linears(model: Any) -> dict[str, tuple[int, int]]:
    """`(inputs, outputs)` of the linear layers but the head, by the path that they have without an adapter."""
    head = model.get_output_embeddings()
    return {
        path.removesuffix(".base_layer"): sizes
        for path, module in _own_modules(model)
        if module is not head and (sizes := _sizes(module))
    }


def _own_modules(model: Any) -> Iterator[tuple[str, Any]]:
    """A model's modules without those that peft has put into it."""
    for path, module in model.named_modules():
        if "lora_" not in path and "modules_to_save" not in path:
            yield path, module


def _sizes(module: Any) -> tuple[int, int] | None:
    """`(inputs, outputs)` of a linear layer; GPT-2's are stored the other way round."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    return None


def _is_adapted(path: str, adapted: str | Sequence[str] | None) -> bool:
    if adapted is None or adapted in ("all-linear", ["all-linear"]):
        return True
    names = [adapted] if isinstance(adapted, str) else adapted
    return any(path == name or path.endswith(f".{name}") for name in names)
