"""How good ranked lists are: recall, NDCG, MRR, hit rate."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankrl.rewards.relevance import Truth, check_ranked, relevance, truth_table

GainForm = Literal["linear", "exponential"]


def recall_at_k(ranked: ArrayLike, truth: Sequence[Truth], k: int) -> NDArray[np.float64]:
    """Return the share of the wanted items that are among the first k ranks.

    The size of a gain does not matter here: an item with any gain above 0 counts as wanted, in full.

    Returns:
        `(B,)` float64 in [0, 1].

    Raises:
        ValueError: if a row wants nothing, k is not positive, or the shapes disagree.

    Example:
        >>> recall_at_k([[4, 7, 2]], [[7, 9]], k=2)
        array([0.5])
    """
    truth = _readable_twice(truth)
    hits = _gains(ranked, truth, k) > 0
    return hits.sum(axis=1) / _num_wanted(truth, len(hits))


def ndcg_at_k(ranked: ArrayLike, truth: Sequence[Truth], k: int, *, gains: GainForm = "linear") -> NDArray[np.float64]:
    """Return DCG@k over the DCG@k of the best possible list, with gain / log2(rank + 1).

    The ideal list comes from the truth, never from the model's list: the min(#truth, k) largest gains in order. A
    short list is therefore not let off.

    Args:
        ranked: `(B, K)` item ids.
        truth: per row the wanted items, with gains or without.
        k: ranks looked at.
        gains: `linear` takes a gain g as it is, `exponential` as 2**g - 1. They differ only where gains other than 1
            occur; papers use either, so say which one a figure is.

    Returns:
        `(B,)` float64 in [0, 1].

    Raises:
        ValueError: if a row wants nothing, k is not positive, the shapes disagree, or the form of gains is unknown.

    Example:
        >>> ndcg_at_k([[4, 7, 2]], [[7]], k=3).round(4)
        array([0.6309])

    Source: Järvelin and Kekäläinen 2002 (linear), Burges et al. 2005 (exponential).
    """
    if gains not in get_args(GainForm):
        raise ValueError(f"gains is {gains!r}; expected one of {', '.join(get_args(GainForm))}.")
    worth = np.asarray if gains == "linear" else _exponential
    truth = _readable_twice(truth)
    at_ranks = worth(_gains(ranked, truth, k))
    return _dcg(at_ranks) / _ideal_dcg(truth, len(at_ranks), k, worth)


def mrr(ranked: ArrayLike, truth: Sequence[Truth], k: int | None = None) -> NDArray[np.float64]:
    """Return 1 / rank of the first wanted item, 0 if there is none (among the first k ranks, where k is given).

    Returns:
        `(B,)` float64 in [0, 1]; their mean is the mean reciprocal rank.
    """
    truth = _readable_twice(truth)
    hits = _gains(ranked, truth, k) > 0
    _num_wanted(truth, len(hits))
    reciprocal_rank = 1.0 / (1 + np.argmax(hits, axis=1))
    return np.where(hits.any(axis=1), reciprocal_rank, 0.0)


def hit_rate_at_k(ranked: ArrayLike, truth: Sequence[Truth], k: int) -> NDArray[np.float64]:
    """Return 1 for each list with a wanted item among its first k ranks, else 0.

    Returns:
        `(B,)` float64; their mean is the hit rate.
    """
    truth = _readable_twice(truth)
    hits = _gains(ranked, truth, k) > 0
    _num_wanted(truth, len(hits))
    return np.asarray(hits.any(axis=1), dtype=np.float64)


def first_ranks(ranked: ArrayLike, k: int | None) -> NDArray[np.int64]:
    """Return the first k ranks of checked lists, or all of them.

    Raises:
        TypeError, ValueError: for what is no `(B, K)` array of item ids, or a k below 1.
    """
    if k is not None and k < 1:
        raise ValueError(f"k is {k}; it is a number of ranks, 1 or more.")
    return check_ranked(ranked)[:, :k]


def _readable_twice(truth: Sequence[Truth]) -> list[Truth]:
    return [list(row) if isinstance(row, Iterator) else row for row in truth]


def _gains(ranked: ArrayLike, truth: Sequence[Truth], k: int | None) -> NDArray[np.float64]:
    return relevance(first_ranks(ranked, k), truth)


def _num_wanted(truth: Sequence[Truth], num_rows: int) -> NDArray[np.int64]:
    counts = np.bincount(truth_table(truth, num_rows).rows, minlength=num_rows)
    if (counts == 0).any():
        raise ValueError(
            f"row {int(np.argmin(counts))} wants nothing, so no list can be right or wrong there; "
            f"{int((counts == 0).sum())} of {num_rows} rows are like that. Leave them out."
        )
    return counts


def _exponential(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp2(gains) - 1


def _dcg(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    return gains @ (1.0 / np.log2(np.arange(2, gains.shape[1] + 2)))


def _ideal_dcg(
    truth: Sequence[Truth], num_rows: int, k: int, worth: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    counts = _num_wanted(truth, num_rows)
    wanted = truth_table(truth, num_rows)
    order = np.lexsort((-wanted.gains, wanted.rows))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)  # from 0 within each row
    in_list = rank < k
    discounted = worth(wanted.gains[order][in_list]) / np.log2(rank[in_list] + 2)
    ideal = np.zeros(num_rows)
    np.add.at(ideal, wanted.rows[in_list], discounted)
    return ideal
