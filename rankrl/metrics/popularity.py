"""Popularity beside accuracy: how much of the tail lists show, and how well they do on it.

Hits alone favour popular items, so a model can gain accuracy by recommending what everybody gets. A row may have no
value (a list without items, a user who wants nothing of the tail): it is NaN there and belongs to no mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankrl.metrics.ranking import first_ranks
from rankrl.rewards.relevance import Truth, first_occurrence, relevance, truth_table

HEAD_SHARE = 0.8  # the head: the fewest items that make up this share of what is wanted; the rest is the tail


@dataclass(frozen=True)
class Popularity:
    """How popular the items of a catalogue are, by how often they are wanted.

    Attributes:
        tail: `(N,)` bool, items outside the head (`HEAD_SHARE`).
        percentile: `(N,)` float64, share of the items that are wanted less often, 0 to 1; ties in the middle.

    Example:
        >>> popularity = Popularity.of([{0: 1.0}, {0: 1.0}, {0: 1.0}, {0: 1.0}, {2: 1.0}], num_items=3)
        >>> popularity.tail
        array([False,  True,  True])
    """

    tail: NDArray[np.bool_]
    percentile: NDArray[np.float64]

    @classmethod
    def of(cls, truth: Sequence[Truth], num_items: int) -> Popularity:
        """Count what is wanted. To judge a model, count in its training data.

        Args:
            truth: per row the wanted items; their gains do not matter.
            num_items: N, the size of the catalogue.

        Raises:
            ValueError: if nothing is wanted, or an item is outside the catalogue.
        """
        items = truth_table(truth, len(truth)).items
        if not items.size or items.max() >= num_items:
            raise ValueError(
                f"popularity is counted in what {len(truth)} rows want: expected at least one item, of 0..N-1 with "
                f"N = {num_items}; got {f'item {items.max()}' if items.size else 'none'}."
            )
        counts = np.bincount(items, minlength=num_items)
        order = np.argsort(-counts, kind="stable")
        before = np.cumsum(counts[order]) - counts[order]
        tail = np.ones(num_items, dtype=bool)
        tail[order[before < HEAD_SHARE * counts.sum()]] = False
        ascending = np.sort(counts)
        below, upto = (np.searchsorted(ascending, counts, side) for side in ("left", "right"))
        return cls(tail, (below + upto) / (2 * num_items))


def tail_share_at_k(ranked: ArrayLike, tail: ArrayLike, k: int | None = None) -> NDArray[np.float64]:
    """Return the share of the items among the first k ranks that belong to the tail.

    Args:
        ranked: `(B, K)` item ids.
        tail: `(N,)` bool, as `Popularity.tail`.
        k: ranks looked at; all of them by default.

    Returns:
        `(B,)` float64 in [0, 1]; NaN for a list without items.

    Example:
        >>> tail_share_at_k([[0, 2, -1], [-1, -1, -1]], [False, True, True], k=3)
        array([0.5, nan])
    """
    return _mean_of_items(first_ranks(ranked, k), np.asarray(tail, dtype=bool))


def popularity_at_k(ranked: ArrayLike, percentile: ArrayLike, k: int | None = None) -> NDArray[np.float64]:
    """Return how popular the items among the first k ranks are on average.

    Args:
        ranked: `(B, K)` item ids.
        percentile: `(N,)` in [0, 1], as `Popularity.percentile`.
        k: ranks looked at; all of them by default.

    Returns:
        `(B,)` float64 in [0, 1]: 0.5 for items drawn at random; NaN for a list without items.

    Example:
        >>> popularity_at_k([[0, 2, -1]], [0.9, 0.5, 0.1], k=3)
        array([0.5])
    """
    return _mean_of_items(first_ranks(ranked, k), np.asarray(percentile, dtype=np.float64))


def tail_recall_at_k(
    ranked: ArrayLike, truth: Sequence[Truth], tail: ArrayLike, k: int | None = None
) -> NDArray[np.float64]:
    """Return the share of the wanted items of the tail that are among the first k ranks.

    Args:
        ranked: `(B, K)` item ids.
        truth: per row the wanted items; any gain above 0 counts in full.
        tail: `(N,)` bool, as `Popularity.tail`.
        k: ranks looked at; all of them by default.

    Returns:
        `(B,)` float64 in [0, 1]; NaN for a row that wants nothing of the tail.

    Raises:
        ValueError: if k is not positive, the shapes disagree, or an item is outside the catalogue.

    Example:
        >>> tail_recall_at_k([[0, 2], [0, 1]], [{0: 1.0, 1: 1.0, 2: 1.0}, {0: 1.0}], [False, True, True], k=2)
        array([0.5, nan])
    """
    ranked, tail = first_ranks(ranked, k), np.asarray(tail, dtype=bool)
    rows, items, _ = truth_table(truth, len(ranked))
    _require_known(items, len(tail), "truth")
    wanted: list[dict[int, float]] = [{} for _ in range(len(ranked))]
    for row, item in zip(rows[tail[items]].tolist(), items[tail[items]].tolist(), strict=True):
        wanted[row][item] = 1.0
    return _share(relevance(ranked, wanted).sum(axis=1), np.array([len(row) for row in wanted]))


def _mean_of_items(ranked: NDArray[np.int64], values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Mean of the `(N,)` values of each list's items, each at its first occurrence."""
    _require_known(ranked, len(values), "ranked")
    counted = first_occurrence(ranked)
    return _share(np.where(counted, values[ranked], 0).sum(axis=1), counted.sum(axis=1))


def _share(part: NDArray[np.generic], whole: NDArray[np.integer]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _require_known(items: NDArray[np.int64], num_items: int, name: str) -> None:
    if items.size and items.max() >= num_items:
        raise ValueError(
            f"{name} holds item {items.max()}, but popularity is known of {num_items} items (0..N-1): count it with "
            "Popularity.of(truth, num_items) for the same catalogue."
        )
