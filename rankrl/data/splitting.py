"""Which rows belong to one dialogue, and holding out whole dialogues: rows of one share their beginning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np

Row = TypeVar("Row")


def dialogue_of(row_id: str) -> str:
    """Return the dialogue a row belongs to: its id up to the last colon (`"redial:7:3"` -> `"redial:7"`).

    An id without a colon is a dialogue of its own.
    """
    return row_id.rpartition(":")[0] or row_id


def hold_out(
    rows: Sequence[Row], share: float, *, seed: int = 0, row_id: Callable[[Row], str] = attrgetter("id")
) -> tuple[list[Row], list[Row]]:
    """Split by dialogue: all turns of one are on the same side, or a model would be measured on what it has read.

    Args:
        rows: dialogues, or anything that has one.
        share: of the dialogues (not of the rows) that is held out, in (0, 1).
        seed: another one holds out other dialogues; the order of the rows changes nothing.
        row_id: what a row's id is, `<set>:<dialogue>:<turn>`.

    Returns:
        The rows to learn from and those held out, each in the order given.

    Raises:
        ValueError: for a share out of its range, or if either side would be empty.

    Example:
        >>> talk = [{"role": "user", "content": "A film?"}]
        >>> rows = [Dialogue(f"chat:{i // 2}:{i % 2}", talk, seen=[], ground_truth=[]) for i in range(8)]
        >>> learn, held = hold_out(rows, 0.25)
        >>> len(learn), sorted({dialogue_of(row.id) for row in held})
        (6, ['chat:2'])
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share:g}; expected the share of dialogues to hold out, above 0 and below 1.")
    names = sorted({dialogue_of(row_id(row)) for row in rows})
    held = set(np.random.default_rng(seed).permutation(names)[: round(share * len(names))].tolist())
    if not 0 < len(held) < len(names):
        raise ValueError(
            f"holding out {share:g} of {len(names)} dialogues leaves {len(names) - len(held)} to learn from and "
            f"{len(held)} to measure on; both need one at least. Rows belong to one dialogue where their ids are the "
            "same up to the last colon."
        )
    sides: tuple[list[Any], list[Any]] = [], []
    for row in rows:
        sides[dialogue_of(row_id(row)) in held].append(row)
    return sides
