"""`segment_ranks` against decoding token by token and applying the rank rule to the text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from benchmarks.measure import Row, Table, best_of
from benchmarks.synthetic import byte_level_tokenizer, catalog_rows, completions, sentencepiece_tokenizer
from rankrl.grpo import LineTable, segment_ranks

TARGET = 100  # times as fast
WHITE = " \t\n\r\x0b\x0c"


def run(
    size: int = 128, length: int = 200, num_ranks: int = 20, vocabulary: int = 32_000, runs: int = 20
) -> Iterator[Table]:
    """Times both ways of finding the ranks of `size` completions of `length` tokens, and holds them together."""
    for name, build in (("byte-level BPE", byte_level_tokenizer), ("SentencePiece", sentencepiece_tokenizer)):
        tokenizer = build(vocabulary)
        ids, mask = tokenized_lists(tokenizer, size, length, num_ranks)
        building, table = best_of(1, lambda _, tokenizer=tokenizer: tokenizer, LineTable.from_tokenizer)  # type: ignore[misc]
        fast, units = best_of(runs, lambda _: None, lambda _: segment_ranks(ids, mask, table, num_ranks))  # noqa: B023
        slow, expected = best_of(1, lambda _: None, lambda _: by_decoding(ids, mask, tokenizer, num_ranks))  # noqa: B023
        torch.testing.assert_close(units, expected, rtol=0, atol=0)
        yield Table(
            f"Ranks of {size} x {length} tokens, {name}, vocabulary {len(tokenizer):,}",
            [
                Row("`segment_ranks`", fast, "ms"),
                Row("decoding token by token", slow, "ms"),
                Row("times as fast", slow / fast, "x", at_least=TARGET),
                Row("`LineTable`, once a run", building, "ms"),
            ],
        )
