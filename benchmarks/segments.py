"""`segment_ranks` against decoding token by token and applying the rank rule to the text."""

from __future__ import annotations

from bisect import bisect
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
        title = f"Ranks of {size} x {length} tokens: {name}, vocabulary of {len(tokenizer):,}"
        yield Table(title, compare(tokenizer, *tokenized_lists(tokenizer, size, length, num_ranks), num_ranks, runs))


def compare(tokenizer: PreTrainedTokenizerBase, ids: Tensor, mask: Tensor, num_ranks: int, runs: int) -> list[Row]:
    """Times both ways on one batch; their results have to be equal."""
    building, table = best_of(LineTable.from_tokenizer, [tokenizer])
    fast, units = best_of(lambda batch: segment_ranks(*batch, table, num_ranks), [(ids, mask)] * runs)
    slow, expected = best_of(lambda batch: by_decoding(*batch, tokenizer, num_ranks), [(ids, mask)])
    torch.testing.assert_close(units, expected, rtol=0, atol=0)
    return [
        Row("`segment_ranks`", fast, "ms"),
        Row("decoding token by token", slow, "ms"),
        Row("times as fast", slow / fast, "x", at_least=TARGET),
        Row("`LineTable`, once a run", building, "ms"),
    ]


def tokenized_lists(
    tokenizer: PreTrainedTokenizerBase, size: int, length: int, num_ranks: int
) -> tuple[Tensor, Tensor]:
    """Ids and mask `(size, length)`: complete lists, and lists with too many lines that the length limit cuts.

    Some lines are numbered, some are followed by a blank one.
    """
    lines = [f"{row['title']} ({row['year']})" for row in catalog_rows(1000)]
    half = size // 2
    texts = completions(lines, size - half, num_ranks, lambda line, rank: f"{rank}. {line}" if rank % 3 else line)
    texts += completions(lines, half, 2 * num_ranks, lambda line, rank: line if rank % 5 else f"{line}\n  ", seed=1)
    ids = torch.full((size, length), tokenizer.pad_token_id)
    mask = torch.zeros(size, length, dtype=torch.long)
    for row, text in enumerate(texts):
        tokens = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id][:length]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return ids, mask


def by_decoding(ids: Tensor, mask: Tensor, tokenizer: PreTrainedTokenizerBase, num_ranks: int) -> Tensor:
    """The units of `segment_ranks`, `(B, T)`, from the text of every single token."""
    units = torch.full_like(ids, -1)
    for row, (tokens, real) in enumerate(zip(ids.tolist(), mask.tolist(), strict=True)):
        tokens = tokens[: sum(real)]
        units[row, : len(tokens)] = torch.tensor(units_of(tokens, tokenizer, num_ranks))
    return units


def units_of(tokens: list[int], tokenizer: PreTrainedTokenizerBase, num_ranks: int) -> list[int]:
    """The rank rule, as it is stated, on the text of one completion."""
    # Behind another token, because SentencePiece decoders strip the space of a first one.
    anchor = tokenizer.encode("a", add_special_tokens=False)[:1]
    lead = len(tokenizer.decode(anchor))
    pieces = [tokenizer.decode([*anchor, token], skip_special_tokens=True)[lead:] for token in tokens]
    lines = "".join(pieces).split("\n")
    line_starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    lines_so_far = list(accumulate(bool(line.strip(WHITE)) for line in lines))  # non-blank ones, with this line

    units, start, rank = [], 0, 0
    for token, piece in zip(tokens, pieces, strict=True):
        if piece:
            ink = len(piece) - len(piece.lstrip(WHITE))
            decisive = start + (ink if ink < len(piece) else 0)  # the first character, if there is no ink
            rank = max(lines_so_far[bisect(line_starts, decisive) - 1] - 1, 0)
        start += len(piece)
        unit = num_ranks if token == tokenizer.eos_token_id else rank if rank < num_ranks else rank + 1
        units.append(unit)
    return units
