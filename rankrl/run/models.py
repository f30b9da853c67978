"""The model a recipe starts from: a name, a directory, an adapter directory, or a tiny GPT-2 made on the spot."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from huggingface_hub import try_to_load_from_cache
from peft import PeftModel
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.pytorch_utils import Conv1D
from trl import ModelConfig, get_quantization_config

from rankrl.run.checkpoints import newest_checkpoint

logger = logging.getLogger(__name__)

TINY_GPT2 = "tiny-gpt2"

# A folder with one of these was saved to its end: the index of weights in several files is written after them.
_WEIGHTS = tuple(
    f"{kind}{index}"
    for kind in ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin")
    for index in ("", ".index.json")
)

# One turn a line: the shape of the common chat templates, and nothing else.
_TINY_CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
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


def build_tiny_gpt2(
    directory: str | Path,
    texts: Iterable[str],
    *,
    vocab_size: int = 2048,
    context: int = 512,
    layers: int = 2,
    width: int = 128,
    heads: int = 4,
    initializer_range: float = 0.02,
    seed: int = 0,
) -> str:
    """Make a small untrained GPT-2 with a byte-level BPE tokenizer and a chat template, for a laptop or a test.

    Args:
        directory: where model and tokenizer are saved; left alone if a model is there already.
        texts: what the tokenizer learns its merges from: the training prompts and the catalogue's lines.
        vocab_size: upper limit of the vocabulary.
        context: longest input in tokens.
        layers: number of transformer blocks.
        width: hidden size.
        heads: attention heads.
        initializer_range: standard deviation of the initial weights; by default GPT-2's own.
        seed: of the initial weights.

    Returns:
        The directory, ready for `from_pretrained`.
    """
    from transformers import set_seed

    directory = Path(directory)
    if (directory / "config.json").is_file():
        return str(directory)
    tokenizer = byte_level_bpe(texts, vocab_size, context)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=context,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        activation_function="gelu_pytorch_tanh",  # the same function as GPT-2's, fused
        resid_pdrop=0.0,  # on a CPU, dropout more than doubles the time of a step
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=initializer_range,
    )
    set_seed(seed)
    model = GPT2LMHeadModel(config)
    tokenizer.save_pretrained(directory)
    model.save_pretrained(directory)  # last: a directory with a model is taken for complete
    logger.info("made a GPT-2 of %.2f M parameters in %s", model.num_parameters() / 1e6, directory)
    return str(directory)


def byte_level_bpe(texts: Iterable[str], vocab_size: int, context: int) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and at most `vocab_size` tokens that learns its merges from texts, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    # Words keep their punctuation, so that "(1995)" can become one token: short lists train fast on a laptop.
    words = pre_tokenizers.Split(Regex(r"\n|[^\S\n]?[^\s]+|[^\S\n]+"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    roles = [f"<|{role}|>" for role in ("system", "user", "assistant")]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|pad|>", "<|end|>", *roles],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=roles,
        chat_template=_TINY_CHAT_TEMPLATE,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
