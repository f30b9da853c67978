"""The model a recipe starts from: a name, a directory or an adapter directory."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from huggingface_hub import try_to_load_from_cache
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.pytorch_utils import Conv1D
from trl import ModelConfig, get_quantization_config

from rankrl.run.checkpoints import newest_checkpoint

logger = logging.getLogger(__name__)

# A folder with one of these was saved to its end: the index of weights in several files is written after them.
_WEIGHTS = tuple(
    f"{kind}{index}"
    for kind in ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin")
    for index in ("", ".index.json")
)


def model_kwargs(model_args: ModelConfig, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """What TRL's `ModelConfig` says about loading, as arguments of `from_pretrained`."""
    kwargs = {
        "dtype": model_args.dtype,
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "quantization_config": get_quantization_config(model_args),
        "trust_remote_code": trust_remote_code,
    }
    return {name: value for name, value in kwargs.items() if value is not None}


def tokenizer_kwargs(model_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What of `model_kwargs` is for the tokenizer too: it comes from the same commit, and may bring code as well."""
    return {name: model_kwargs[name] for name in ("revision", "trust_remote_code") if name in model_kwargs}


def is_adapter(name_or_path: str | Path) -> bool:
    """Is this a directory that holds a peft adapter and no full model?"""
    return (Path(name_or_path) / "adapter_config.json").is_file()


def has_weights(name_or_path: str | Path) -> bool:
    """Are the weights of a model or an adapter on this machine, in its directory or in the cache of the Hub?"""
    if Path(name_or_path).is_dir():
        return any((Path(name_or_path) / name).is_file() for name in _WEIGHTS)
    return any(isinstance(try_to_load_from_cache(str(name_or_path), name), str) for name in _WEIGHTS)


def require_model(name_or_path: str | Path) -> None:
    """Refuse a directory that is not there, before the Hub is asked for it, or one without weights.

    Raises:
        FileNotFoundError: with the newest checkpoint, where a training that was not finished left one.
    """
    path = Path(name_or_path)
    if not path.is_dir():
        if _looks_local(str(name_or_path)):
            raise FileNotFoundError(
                f"model_name_or_path is {name_or_path}, and there is no such directory (from {Path.cwd()}). Name the "
                "output_dir of an earlier stage, a model's directory, or a model on the Hub (organisation/name)."
            )
    elif not has_weights(path):
        newest = newest_checkpoint(path)
        way_out = (
            f"Its training was not finished: let it go on (--resume_from_checkpoint latest), or name {newest}."
            if newest
            else "Has its training ended well, and is it the right directory?"
        )
        raise FileNotFoundError(f"model_name_or_path is {path}, which holds no weights (model.safetensors). {way_out}")


def require_lora_targets(model: torch.nn.Module, model_args: ModelConfig) -> None:
    """Refuse LoRA on modules that the model lacks. peft does so only where it finds none of several.

    Raises:
        ValueError: with the names of the model's linear modules.
    """
    targets = model_args.lora_target_modules
    if not model_args.use_peft or targets is None or targets == "all-linear":
        return
    names = [name for name, _ in model.named_modules()]
    if isinstance(targets, str):  # a pattern for the whole name, and so is a list of one
        missing = [] if any(re.fullmatch(targets, name) for name in names) else [targets]
    else:
        missing = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in names)]
    if missing:
        linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)]
        found = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        pattern = f" A single one is read as a pattern: .*{targets}" if isinstance(targets, str) else ""
        raise ValueError(
            f"lora_target_modules names {', '.join(missing)}, which the model lacks; its linear modules are {found}. "
            f"Name some of these, or all-linear.{pattern}"
        )


def load_tokenizer(name_or_path: str | Path, **kwargs: Any) -> Any:
    """The tokenizer of a model, or of an adapter (its own, else that of its base model).

    Args:
        name_or_path: as `load_policy` takes it.
        **kwargs: passed to `from_pretrained`; see `tokenizer_kwargs`.
    """
    if not name_or_path:
        raise ValueError(
            "model_name_or_path is missing; name a model, the directory of a stage, or tiny-gpt2 for SFT on a laptop."
        )
    require_model(name_or_path)
    path = Path(name_or_path)
    if is_adapter(path) and not (path / "tokenizer_config.json").is_file():
        name_or_path = _base_of(path)
    tokenizer = AutoTokenizer.from_pretrained(name_or_path, **kwargs)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_policy(
    name_or_path: str | Path, *, merge_into: str | Path | None = None, trainable: bool = True, **model_kwargs: Any
) -> Any:
    """Load the model that a stage starts from.

    Args:
        name_or_path: a model's name or directory, or the directory of an adapter.
        merge_into: where to save an adapter merged into its base model; the merged model is then loaded from there, so
            that an adapter trained on top names a base that holds the merged one. Without it the adapter is loaded as
            it is, and trained further where `trainable` (TRL then keeps a frozen copy of it as the KL reference).
        trainable: will the adapter be trained?
        **model_kwargs: passed to `from_pretrained`: `dtype`, `attn_implementation`, `quantization_config`, ...

    Returns:
        A `PreTrainedModel`, or a `PeftModel` for an adapter that was not merged.

    Raises:
        FileNotFoundError: if an adapter names a base model directory that does not exist any more.
    """
    if Path(name_or_path).is_dir():
        name_or_path = Path(name_or_path).resolve()  # what is trained on top remembers the place, wherever it is loaded
    if not is_adapter(name_or_path):
        return AutoModelForCausalLM.from_pretrained(name_or_path, **model_kwargs)
    base_name = _base_of(Path(name_or_path))
    if merge_into is None:
        base = AutoModelForCausalLM.from_pretrained(base_name, **model_kwargs)
        return PeftModel.from_pretrained(base, str(name_or_path), is_trainable=trainable)
    merged = Path(merge_into).resolve()
    whole = {name: value for name, value in model_kwargs.items() if name != "quantization_config"}
    if is_deepspeed_zero3_enabled() or PartialState().is_main_process:
        base = AutoModelForCausalLM.from_pretrained(base_name, **whole)  # four bits would round the adapter away
        _save_merged(PeftModel.from_pretrained(base, str(name_or_path)), merged)
    if PartialState().is_main_process:
        load_tokenizer(name_or_path, **tokenizer_kwargs(model_kwargs)).save_pretrained(merged)
    PartialState().wait_for_everyone()
    return AutoModelForCausalLM.from_pretrained(merged, **model_kwargs)


def _save_merged(model: PeftModel, directory: Path) -> None:
    """Save a model with its adapter merged, on the main process; under ZeRO-3 every process has a share of it."""
    weights: AbstractContextManager[Any] = nullcontext()
    if is_deepspeed_zero3_enabled():
        import deepspeed

        weights = deepspeed.zero.GatheredParameters(list(model.parameters()))
    with weights:
        model.merge_and_unload().save_pretrained(directory, is_main_process=PartialState().is_main_process)


def _looks_local(name: str) -> bool:
    """Not `organisation/name`: a path, or something in a folder that is here."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or ("/" in name and Path(name).parent.is_dir())


def _base_of(adapter: Path) -> str:
    base = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    if _looks_local(base) and not Path(base).is_dir():
        raise FileNotFoundError(
            f"the adapter in {adapter} was trained on the model in {base}, which is not there any more. Put it back, "
            f"or write its new place into `base_model_name_or_path` of {adapter / 'adapter_config.json'}."
        )
    return base
