"""What a list is judged by: what a user would be shown (`served`), or the list as the model wrote it (`strict`).

Both return `(B, k)` item ids without repeats or seen items, so that every metric applies to either alike. They differ
in what an unknown, seen or repeated line costs: nothing but its place in `served`, its rank in `strict`.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankrl.rewards.relevance import check_ranked, first_occurrence, is_seen

SeenItems = Sequence[Iterable[int]]


def served(ranked: ArrayLike, seen: SeenItems | None, k: int) -> NDArray[np.int64]:
    """Drop what is unknown, seen or repeated, close the list up, then cut it at k.

    Args:
        ranked: `(B, K)` item ids, -1 for a line that names nothing in the catalogue.
        seen: per row the ids of items the user has seen, or None.
        k: ranks shown.

    Returns:
        `(B, k)` int64, padded at the end with -1.

    Example:
        >>> served([[-1, 5, 5, 8, 3]], [[8]], k=3)
        array([[ 5,  3, -1]])
    """
    shown = _without_seen_or_repeated(ranked, seen)
    order = np.argsort(shown < 0, axis=1, kind="stable")
    return _cut(np.take_along_axis(shown, order, axis=1), k)


def strict(ranked: ArrayLike, seen: SeenItems | None, k: int) -> NDArray[np.int64]:
    """Keep every line at its rank; an unknown, seen or repeated one is -1 and can earn nothing.

    Arguments and result as for `served`.

    Example:
        >>> strict([[-1, 5, 5, 8, 3]], [[8]], k=3)
        array([[-1,  5, -1]])
    """
    return _cut(_without_seen_or_repeated(ranked, seen), k)


def _without_seen_or_repeated(ranked: ArrayLike, seen: SeenItems | None) -> NDArray[np.int64]:
    ranked = check_ranked(ranked)
    keep = first_occurrence(ranked)
    if seen is not None:
        keep &= ~is_seen(ranked, seen)
    return np.where(keep, ranked, -1)


def _cut(ranked: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    if k < 1:
        raise ValueError(f"k is {k}; it is a number of ranks, 1 or more.")
    missing = max(0, k - ranked.shape[1])
    return np.pad(ranked[:, :k], ((0, 0), (0, missing)), constant_values=-1)
