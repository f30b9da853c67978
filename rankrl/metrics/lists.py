"""What lists are made of, whatever anybody wanted: known items, repeats, and how much of the catalogue they use."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankrl.metrics.ranking import first_ranks
from rankrl.rewards.relevance import check_ranked, first_occurrence


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
    ranked = first_ranks(ranked, k)
    if ranked.size and ranked.max() >= num_items:
        raise ValueError(f"ranked holds item {ranked.max()}, but the catalogue has {num_items} items (0..N-1).")
    return len(np.unique(ranked[ranked >= 0])) / num_items
