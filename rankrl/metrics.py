"""How good ranked lists are: recall, NDCG, MRR, hit rate, and how much of the catalogue they use. Pure NumPy.

Shapes: `ranked` is `(B, K)` int64, item ids in list order with -1 for a rank that names nothing in the catalogue;
`truth` holds per row the wanted item ids, or `{item id: gain}` with gains in (0, 1]. An item counts at its first
occurrence only. `k` may exceed K: a list has nothing to show after its end.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankrl.rewards.relevance import Truth, check_ranked, first_occurrence, relevance, truth_table


def recall_at_k(ranked: ArrayLike, truth: Sequence[Truth], k: int) -> NDArray[np.float64]:
    """Return the share of the wanted items that are among the first k ranks.

    Gains do not matter here: an item is wanted or not.

    Returns:
        `(B,)` float64 in [0, 1].

    Raises:
        ValueError: if a row wants nothing, k is not positive, or the shapes disagree.

    Example:
        >>> recall_at_k([[4, 7, 2]], [[7, 9]], k=2)
        array([0.5])
    """
    hits = _gains(ranked, truth, k) > 0
    return hits.sum(axis=1) / _num_wanted(truth, len(hits))


def ndcg_at_k(ranked: ArrayLike, truth: Sequence[Truth], k: int) -> NDArray[np.float64]:
    """Return DCG@k over the DCG@k of the best possible list, with gain / log2(rank + 1).

    The ideal list comes from the truth, never from the model's list: the min(#truth, k) largest gains in order. A
    short list is therefore not let off.

    Returns:
        `(B,)` float64 in [0, 1].

    Raises:
        ValueError: if a row wants nothing, k is not positive, or the shapes disagree.

    Example:
        >>> ndcg_at_k([[4, 7, 2]], [[7]], k=3).round(4)
        array([0.6309])
    """
    gains = _gains(ranked, truth, k)
    return _dcg(gains) / _ideal_dcg(truth, len(gains), k)


def mrr(ranked: ArrayLike, truth: Sequence[Truth], k: int | None = None) -> NDArray[np.float64]:
    """Return 1 / rank of the first wanted item, 0 if there is none (among the first k ranks, where k is given).

    Returns:
        `(B,)` float64 in [0, 1]; their mean is the mean reciprocal rank.
    """
    hits = _gains(ranked, truth, k) > 0
    _num_wanted(truth, len(hits))
    reciprocal_rank = 1.0 / (1 + np.argmax(hits, axis=1))
    return np.where(hits.any(axis=1), reciprocal_rank, 0.0)


def hit_rate_at_k(ranked: ArrayLike, truth: Sequence[Truth], k: int) -> NDArray[np.float64]:
    """Return 1 for each list with a wanted item among its first k ranks, else 0.

    Returns:
        `(B,)` float64; their mean is the hit rate.
    """
    hits = _gains(ranked, truth, k) > 0
    _num_wanted(truth, len(hits))
    return np.asarray(hits.any(axis=1), dtype=np.float64)


def in_catalog_share(ranked: ArrayLike, num_lines: ArrayLike) -> NDArray[np.float64]:
    """Return the share of the produced lines that name an item of the catalogue.

    Args:
        ranked: `(B, K)` item ids.
        num_lines: `(B,)` integers, the non-blank lines of each text. `ranked` alone cannot tell an unknown line
            from a missing one. Lines after rank K are not looked at.

    Returns:
        `(B,)` float64 in [0, 1]; 0 for a text without a line.

    Raises:
        ValueError: if the shapes disagree, or a list has fewer lines than its last item needs.
    """
    ranked, num_lines = check_ranked(ranked), np.asarray(num_lines)
    num_ranks = ranked.shape[1]
    if num_lines.shape != (len(ranked),):
        raise ValueError(f"num_lines must have shape ({len(ranked)},), one count per list; got {num_lines.shape}.")
    last_rank = np.where(ranked >= 0, np.arange(1, num_ranks + 1), 0).max(axis=1, initial=0)
    if (num_lines < last_rank).any():
        row = int(np.argmax(num_lines < last_rank))
        raise ValueError(f"list {row} has {num_lines[row]} lines but an item at rank {last_rank[row]}.")
    return (ranked >= 0).sum(axis=1) / np.clip(num_lines, 1, num_ranks)


def repeat_share(ranked: ArrayLike) -> NDArray[np.float64]:
    """Return the share of a list's catalogue items that stand at an earlier rank already.

    Returns:
        `(B,)` float64 in [0, 1); 0 for a list without items.
    """
    ranked = check_ranked(ranked)
    num_items = (ranked >= 0).sum(axis=1)
    num_repeats = num_items - first_occurrence(ranked).sum(axis=1)
    return num_repeats / np.maximum(num_items, 1)


def coverage_at_k(ranked: ArrayLike, num_items: int, k: int) -> float:
    """Return the share of the catalogue that at least one list shows among its first k ranks.

    Args:
        ranked: `(B, K)` item ids.
        num_items: N, the size of the catalogue.
        k: ranks looked at.
    """
    ranked = check_ranked(ranked)[:, : _check_k(k)]
    if ranked.size and ranked.max() >= num_items:
        raise ValueError(f"ranked holds item {ranked.max()}, but the catalogue has {num_items} items (0..N-1).")
    return len(np.unique(ranked[ranked >= 0])) / num_items


def _gains(ranked: ArrayLike, truth: Sequence[Truth], k: int | None) -> NDArray[np.float64]:
    ranked = check_ranked(ranked)
    return relevance(ranked if k is None else ranked[:, : _check_k(k)], truth)


def _check_k(k: int) -> int:
    if k < 1:
        raise ValueError(f"k is {k}; it is a number of ranks, 1 or more.")
    return k


def _num_wanted(truth: Sequence[Truth], num_rows: int) -> NDArray[np.int64]:
    counts = np.bincount(truth_table(truth, num_rows).rows, minlength=num_rows)
    if (counts == 0).any():
        raise ValueError(
            f"row {int(np.argmin(counts))} wants nothing, so no list can be right or wrong there; "
            f"{int((counts == 0).sum())} of {num_rows} rows are like that. Leave them out."
        )
    return counts


def _dcg(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    return gains @ (1.0 / np.log2(np.arange(2, gains.shape[1] + 2)))


def _ideal_dcg(truth: Sequence[Truth], num_rows: int, k: int) -> NDArray[np.float64]:
    counts = _num_wanted(truth, num_rows)
    wanted = truth_table(truth, num_rows)
    order = np.lexsort((-wanted.gains, wanted.rows))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)  # from 0 within each row
    in_list = rank < k
    discounted = wanted.gains[order][in_list] / np.log2(rank[in_list] + 2)
    ideal = np.zeros(num_rows)
    np.add.at(ideal, wanted.rows[in_list], discounted)
    return ideal
