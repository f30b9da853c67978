"""The model a recipe starts from: a name, a directory, an adapter directory, or a tiny GPT-2 made on the spot."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from accelerate import PartialState
from peft import PeftModel
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import ModelConfig, get_quantization_config

logger = logging.getLogger(__name__)

TINY_GPT2 = "tiny-gpt2"

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


def is_adapter(name_or_path: str | Path) -> bool:
    """Is this a directory that holds a peft adapter and no full model?"""
    return (Path(name_or_path) / "adapter_config.json").is_file()


def load_tokenizer(name_or_path: str | Path, **kwargs: Any) -> Any:
    """The tokenizer of a model, or of an adapter (its own, else that of its base model)."""
    if not name_or_path:
        raise ValueError(
            "model_name_or_path is missing; name a model, the directory of a stage, or tiny-gpt2 for SFT on a laptop."
        )
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
        load_tokenizer(name_or_path).save_pretrained(merged)
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


def _base_of(adapter: Path) -> str:
    base = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    looks_local = base.startswith((".", "/", "~")) or base.count("/") > 1
    if looks_local and not Path(base).is_dir():
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
    layers: int = 3,
    width: int = 128,
    heads: int = 4,
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
        seed: of the initial weights.

    Returns:
        The directory, ready for `from_pretrained`.
    """
    from transformers import set_seed

    directory = Path(directory)
    if (directory / "config.json").is_file():
        return str(directory)
    tokenizer = _byte_level_bpe(texts, vocab_size, context)
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
    )
    set_seed(seed)
    model = GPT2LMHeadModel(config)
    tokenizer.save_pretrained(directory)
    model.save_pretrained(directory)  # last: a directory with a model is taken for complete
    logger.info("made a GPT-2 of %.2f M parameters in %s", model.num_parameters() / 1e6, directory)
    return str(directory)


def _byte_level_bpe(texts: Iterable[str], vocab_size: int, context: int) -> PreTrainedTokenizerFast:
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
