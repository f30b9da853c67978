"""How likely scores make what users really wanted, with the gradient that Adjust follows; streamed over dialogues."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankrl.demonstrations.candidates import Candidates, check_finite
from rankrl.rewards.relevance import Truth, TruthTable, truth_table

Scores = NDArray[np.floating] | Candidates
ScoreBlocks = Scores | Iterable[Scores]
BlockTruth = Sequence[Truth] | Sequence[Sequence[Truth]]

BLOCK_SCORES = 2**18
"""Scores worked on at a time: 2 MiB, so that the passes over a block find it in the processor's cache."""


class _Block(NamedTuple):
    """Scores of some dialogues, and which item each is of; None where column j is item j."""

    scores: NDArray[np.float64]
    items: NDArray[np.int64] | None

    def at(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values of the items, where their scores stand."""
        return values if self.items is None else values[self.items]

    def add_to(self, sums: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Adds values that stand as the scores do to the sums of their items."""
        if self.items is None:
            sums += values.sum(axis=0)
        else:
            sums += np.bincount(self.items.ravel(), values.ravel(), minlength=len(sums))


class TruthLikelihood:
    """The negative log-likelihood of the wanted items under softmax(scale * score + bias), and its gradient.

    The softmax of a dialogue with candidates runs over these. Dialogues that want nothing do not count.

    Args:
        scores: `(D, N)` array, possibly memory-mapped, candidates, or an iterable of such blocks of dialogues that can
            be gone through again and again.
        truth: what each of the D dialogues wants, item ids or `{item id: gain}`; beside blocks also one list a block.

    Attributes:
        num_items: N.
        num_wanted: wanted items that count, over all dialogues.
        num_missing: wanted items that are no candidates of their dialogue, so that no scale or bias can reach them.
        times_wanted: `(N,)`, the gains of each item, summed over the dialogues.
        mean: `(N,)`, the mean of each item's scores over the dialogues that score it; 0 if none does.
        variance: `(N,)`, their variance.

    Raises:
        TypeError: if `scores` can be gone through only once.
        ValueError: if scores are not finite or not as many as the truth, an item is outside the catalogue, or nothing
            at all is wanted.
    """

    def __init__(self, scores: ScoreBlocks, truth: BlockTruth) -> None:
        if isinstance(scores, Iterator):
            raise TypeError(
                f"scores is a {type(scores).__name__}, which can be gone through only once; give a list of blocks, or "
                "an object whose __iter__ starts anew"
            )
        self._scores = scores
        self._wanted: list[TruthTable] = []  # of each block, with columns of its scores in place of items
        rows: list[Truth] = list(truth) if isinstance(scores, np.ndarray | Candidates) else _flat(truth)  # type: ignore[arg-type]
        self.num_items = _num_items(scores)
        self.num_wanted = self.num_missing = 0
        self.times_wanted = np.zeros(self.num_items)
        self.mean, self.variance = self._survey(truth_table(rows, len(rows)), len(rows))
        if not self.num_wanted:
            missing = f": none of the {self.num_missing} wanted items is a candidate" if self.num_missing else ""
            raise ValueError(f"no dialogue wants anything that could be learned from{missing}")

    def __call__(
        self, scale: NDArray[np.float64], bias: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """The loss at `(N,)` scale and bias, and its `(N,)` gradients by both; sums over dialogues, in float64."""
        loss, by_scale, by_bias = 0.0, np.zeros(self.num_items), np.zeros(self.num_items)
        for block, wanted in zip(_blocks(self._scores), self._wanted, strict=True):
            if len(wanted.rows):
                loss_of_block, residual = _softmax_residual(block, wanted, scale, bias)
                loss += loss_of_block
                block.add_to(by_bias, residual)
                block.add_to(by_scale, np.multiply(residual, block.scores, out=residual))
        return loss, by_scale, by_bias

    def _survey(self, truth: TruthTable, num_rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Goes through all scores once: checks them, notes where wanted items stand, returns items' moments."""
        if (unknown := truth.items >= self.num_items).any():
            at = int(np.argmax(unknown))
            raise ValueError(
                f"dialogue {truth.rows[at]} wants item {truth.items[at]}, but ids are 0..{self.num_items - 1}: is the "
                "truth of the catalogue that was scored?"
            )
        count, first, second = np.zeros((3, self.num_items))
        start = 0
        for block in _blocks(self._scores):
            check_finite(block.scores, first_row=start)
            end = start + len(block.scores)
            here = slice(*np.searchsorted(truth.rows, (start, end)))
            self._note(block, TruthTable(truth.rows[here] - start, truth.items[here], truth.gains[here]))
            block.add_to(count, np.ones_like(block.scores))
            block.add_to(first, block.scores)
            block.add_to(second, block.scores**2)
            start = end
        if start != num_rows:
            raise ValueError(f"scores hold {start} dialogues, truth {num_rows}; give one row of truth per dialogue")
        mean, square = np.stack([first, second]) / np.maximum(count, 1)
        return mean, np.maximum(square - mean**2, 0)

    def _note(self, block: _Block, truth: TruthTable) -> None:
        """Where the wanted items of a block stand among its scores."""
        columns = truth.items
        if block.items is not None:
            columns = Candidates(block.items, block.scores, self.num_items).locate(truth.rows, truth.items)
        reached = columns >= 0
        self.num_wanted += int(reached.sum())
        self.num_missing += int((~reached).sum())
        self._wanted.append(TruthTable(truth.rows[reached], columns[reached], truth.gains[reached]))
        np.add.at(self.times_wanted, truth.items[reached], truth.gains[reached])


def _softmax_residual(
    block: _Block, wanted: TruthTable, scale: NDArray[np.float64], bias: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """The loss of a block, and its derivative by each scale * score + bias: what is expected minus what was wanted."""
    rows, columns, gains = wanted
    logits = block.scores * block.at(scale)
    logits += block.at(bias)
    logits -= logits.max(axis=1, keepdims=True)
    chosen = logits[rows, columns]
    residual = np.exp(logits, out=logits)
    total = residual.sum(axis=1)
    residual *= (np.bincount(rows, gains, minlength=len(total)) / total)[:, None]
    residual[rows, columns] -= gains
    return float(gains @ (np.log(total[rows]) - chosen)), residual


def _blocks(scores: ScoreBlocks) -> Iterator[_Block]:
    """The scores in blocks of a few dialogues, always the same ones."""
    for part in _parts(scores):
        items = part.items if isinstance(part, Candidates) else None
        values = part.scores if isinstance(part, Candidates) else part
        size = max(1, BLOCK_SCORES // max(values.shape[1], 1))
        for start in range(0, len(values), size):
            rows = slice(start, start + size)
            yield _Block(np.asarray(values[rows], dtype=np.float64), None if items is None else items[rows])


def _parts(scores: ScoreBlocks) -> Iterator[Scores]:
    """The blocks as they were given; an array is one. All are of the same items."""
    num_items = None
    for part in [scores] if isinstance(scores, np.ndarray | Candidates) else scores:
        if not isinstance(part, Candidates) and (not isinstance(part, np.ndarray) or part.ndim != 2):
            raise ValueError(
                f"scores hold a {type(part).__name__} of shape {np.shape(part)}; expected a (D, N) array, candidates, "
                "or an iterable of such blocks of dialogues"
            )
        width = part.num_items if isinstance(part, Candidates) else part.shape[1]
        num_items = width if num_items is None else num_items
        if width != num_items:
            raise ValueError(f"scores hold a block of {width} items after one of {num_items}")
        yield part


def _num_items(scores: ScoreBlocks) -> int:
    first = next(_parts(scores), None)
    if first is None:
        raise ValueError("scores hold no block; expected at least one dialogue")
    return first.num_items if isinstance(first, Candidates) else first.shape[1]


def _flat(truth: BlockTruth) -> list[Any]:
    """One row per dialogue, also where it came as one list of rows per block."""
    rows: list[Any] = list(truth)
    if any(isinstance(row, Sequence) and len(row) and isinstance(row[0], Iterable) for row in rows):
        return [row for block in rows for row in block]
    return rows
