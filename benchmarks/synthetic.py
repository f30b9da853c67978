"""Made-up catalogues, lists and tokenizers: nothing is downloaded, and every run sees the same."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SYLLABLES = "ba be bo ca ce da de di do el fa fi ga go ha he in ka la le li lo ma me mi na ne no or pa ra re ri".split()
Change = Callable[[str, int], str]  # a line and its rank -> the line as the model wrote it


def catalog_rows(size: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with made-up titles of one to four words; some share a title, none a title and a year."""
    random_source = random.Random(seed)
    pairs: dict[tuple[str, int], None] = {}
    while len(pairs) < size:
        words = (
            "".join(random_source.choices(SYLLABLES, k=random_source.randint(2, 4))).capitalize()
            for _ in range(random_source.randint(1, 4))
        )
        article = "The " if random_source.random() < 0.3 else ""
        pairs[article + " ".join(words), random_source.randint(1930, 2025)] = None
    return [{"title": title, "year": year} for title, year in pairs]


def as_it_is(line: str, _rank: int) -> str:
    """The line of the catalogue, letter by letter."""
    return line


def completions(lines: Sequence[str], size: int, num_ranks: int, change: Change = as_it_is, seed: int = 0) -> list[str]:
    """Lists of `num_ranks` lines drawn from the catalogue's, each as the model wrote it: `size` texts."""
    random_source = random.Random(seed)
    return [
        "\n".join(change(random_source.choice(lines), rank) for rank in range(1, num_ranks + 1)) for _ in range(size)
    ]


def byte_level_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """GPT-2 style: byte-level BPE, trained on made-up titles. Token 0 is end, begin and padding."""
    end = "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[end],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_titles(vocabulary), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end, pad_token=end)


def line_writing_tokenizer(vocabulary: int, line_tokens: int) -> PreTrainedTokenizerFast:
    """Byte-level, `vocabulary` tokens: whoever draws them at random writes lines of `line_tokens` tokens on average.

    Token 0 is end and padding, then come the 256 bytes, then made-up words, of which as many end a line as it takes. No
    merges are known: what is encoded becomes one token a byte.
    """
    end, space, newline = "<|endoftext|>", "Ġ", "Ċ"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [end, *alphabet]
    for number in range(vocabulary - len(names)):
        word = "".join(SYLLABLES[number // len(SYLLABLES) ** place % len(SYLLABLES)] for place in range(4))
        names.append(space + word + (newline if number % line_tokens == 0 else ""))
    model = models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=[])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=end)


def sentencepiece_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Llama-2 style: `▁` for spaces, one token per byte as the fallback, and a newline only as the byte `<0x0A>`."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    names = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - len(names), show_progress=False)
    learned.train_from_iterator(_titles(vocabulary), trainer)
    model = json.loads(learned.to_str())["model"]
    names += sorted(model["vocab"], key=model["vocab"].get)
    tokenizer = Tokenizer(
        models.BPE(
            vocab={name: index for index, name in enumerate(names)},
            merges=[tuple(merge) for merge in model["merges"]],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="<unk>")


def _titles(vocabulary: int) -> list[str]:
    """Lines enough for a vocabulary of this size to be learned from."""
    return [f"{row['title']} ({row['year']})" for row in catalog_rows(max(1000, vocabulary))]
