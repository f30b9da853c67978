"""A model for laptops: a tiny GPT-2 with a vocabulary of its own, made on the spot."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed

logger = logging.getLogger(__name__)

TINY_GPT2 = "tiny-gpt2"  # as `model_name_or_path`

# One turn a line: the shape of the common chat templates, and nothing else.
_TINY_CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


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
