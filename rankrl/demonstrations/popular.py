"""Demonstrations without a teacher: what the user really wanted, filled up with what everybody wants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def popular_items(truth: Iterable[Iterable[int]], num_items: int) -> NDArray[np.int64]:
    """All items by how often they were wanted, most often first; ties in the catalogue's order.

    Args:
        truth: wanted item ids of each training dialogue.
        num_items: N.

    Returns:
        `(N,)` int64.

    Raises:
        ValueError: for an id that is not in 0..N-1.
    """
    wanted = np.fromiter((item for row in truth for item in row), dtype=np.int64)
    if wanted.size and not 0 <= wanted.min() <= wanted.max() < num_items:
        raise ValueError(
            f"truth names items {wanted.min()} to {wanted.max()}; ids are 0..{num_items - 1}: is the truth of this "
            "catalogue, and without items that it lacks (-1)?"
        )
    return np.argsort(-np.bincount(wanted, minlength=num_items), kind="stable")


def truth_then_popular(
    truth: Sequence[Iterable[int]], seen: Sequence[Iterable[int]], popular: NDArray[np.int64], num_ranks: int
) -> NDArray[np.int64]:
    """A list for each dialogue: its wanted items in their order, then popular ones that were not mentioned.

    Args:
        truth: per dialogue the wanted item ids.
        seen: per dialogue the mentioned item ids; they are left out of the filling.
        popular: `(N,)` items, most popular first (`popular_items`).
        num_ranks: K.

    Returns:
        `(D, K)` int64, no item twice in a list.

    Raises:
        ValueError: if a dialogue leaves fewer than K items to list, or wants what is no item.
    """
    by_popularity = popular.tolist()
    lists = np.empty((len(truth), num_ranks), dtype=np.int64)
    for row, (wanted, mentioned) in enumerate(zip(truth, seen, strict=True)):
        chosen = list(dict.fromkeys(wanted))[:num_ranks]
        if chosen and not 0 <= min(chosen) <= max(chosen) < len(popular):
            raise ValueError(
                f"dialogue {row} wants the items {chosen}; ids are 0..{len(popular) - 1}. Leave out what the "
                "catalogue lacks (-1)."
            )
        taken = {*chosen, *mentioned}
        filling = (item for item in by_popularity if item not in taken)
        chosen += [item for item, _ in zip(filling, range(num_ranks - len(chosen)), strict=False)]
        if len(chosen) < num_ranks:
            raise ValueError(
                f"dialogue {row} leaves {len(chosen)} items to list, but num_ranks is {num_ranks}: the catalogue holds "
                f"{len(popular)} items, of which {len(taken)} are wanted or mentioned. Lower num_ranks."
            )
        lists[row] = chosen
    return lists
