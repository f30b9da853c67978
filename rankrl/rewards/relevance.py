"""Relevance: the gain of the item at each rank of a list, counted at its first occurrence only."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Truth = Iterable[int] | Mapping[int, float]
"""What one row's user really wanted: item ids, or `{item id: gain}` with gains in (0, 1]."""


class TruthTable(NamedTuple):
    """The truth of all rows as three flat arrays of equal length, ordered by row, each item once a row."""

    rows: NDArray[np.int64]
    items: NDArray[np.int64]
    gains: NDArray[np.float64]


def relevance(
    ranked: ArrayLike, truth: Sequence[Truth], *, seen: Sequence[Iterable[int]] | None = None
) -> NDArray[np.float64]:
    """Return the gain of the item at each rank.

    An item earns its gain where it occurs first in its list; repeats, misses, items the user has already seen and
    ranks that name nothing in the catalogue (-1) earn 0 and keep their rank.

    Args:
        ranked: `(B, K)` integers, item ids in list order, -1 where a rank names nothing in the catalogue.
        truth: per row the wanted items, as ids (gain 1) or as `{item id: gain}` with gains in (0, 1].
        seen: per row the ids of items that earn nothing; -1 stands for an item outside the catalogue. Omit for none.

    Returns:
        `(B, K)` float64.

    Raises:
        TypeError: if `ranked`, `truth` or `seen` hold something other than integer ids.
        ValueError: if the shapes disagree, an id is out of range, or a gain is outside (0, 1].

    Example:
        >>> relevance([[4, 7, 7, -1]], [{7: 1.0, 2: 0.5}])
        array([[0., 1., 0., 0.]])

    Source: arXiv 2510.20150, section on rank-level returns (`rel_k`); gains are the graded generalisation.
    """
    ranked = check_ranked(ranked)
    wanted = truth_table(truth, len(ranked))
    gains = _gain_of_cells(ranked, wanted)
    gains[~first_occurrence(ranked)] = 0.0
    if seen is not None:
        gains[is_seen(ranked, seen)] = 0.0
    return gains


def first_occurrence(ranked: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which ranks name an item of the catalogue that no earlier rank of the same list names.

    Args:
        ranked: `(B, K)` int64 item ids, -1 for nothing.

    Returns:
        `(B, K)` bool, False wherever `ranked` is -1.
    """
    order = np.argsort(ranked, axis=1, kind="stable")  # equal ids keep their list order
    in_order = np.take_along_axis(ranked, order, axis=1)
    is_first = np.ones(ranked.shape, dtype=bool)
    is_first[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
    first = np.empty_like(is_first)
    np.put_along_axis(first, order, is_first, axis=1)
    return first & (ranked >= 0)


def is_seen(ranked: NDArray[np.int64], seen: Sequence[Iterable[int]]) -> NDArray[np.bool_]:
    """Say which ranks name an item that the row's user has already seen.

    Args:
        ranked: `(B, K)` int64 item ids, -1 for nothing.
        seen: per row the seen ids; -1 (an item outside the catalogue) matches nothing.

    Returns:
        `(B, K)` bool.
    """
    rows, items, _ = _flatten(seen, len(ranked), what="seen")
    known = items >= 0
    span = _span(ranked, items)
    return np.isin(_codes(ranked, span), rows[known] * span + items[known])


def check_ranked(ranked: ArrayLike) -> NDArray[np.int64]:
    """Return `ranked` as a `(B, K)` int64 array, or say what is wrong with it.

    Raises:
        TypeError: if the ids are not integers.
        ValueError: if the array is not two-dimensional or holds an id below -1.
    """
    try:
        array = np.asarray(ranked)
    except ValueError as error:
        raise ValueError("ranked must be a (B, K) array: give every list the same length and pad with -1.") from error
    if array.ndim != 2:
        raise ValueError(
            f"ranked must be a (B, K) array of item ids, got shape {array.shape}; wrap a single list as ranked[None]."
        )
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(
            f"ranked must hold integer item ids, got {array.dtype}; turn texts into ids with Catalog.ranked(texts, K)."
        )
    if array.size and array.min() < -1:
        raise ValueError(f"ranked holds the id {array.min()}; ids are 0..N-1, and -1 for nothing in the catalogue.")
    return array.astype(np.int64, copy=False)


def truth_table(truth: Sequence[Truth], num_rows: int) -> TruthTable:
    """Return the truth of all rows as flat arrays, or say what is wrong with it.

    Args:
        truth: per row item ids or `{item id: gain}`; an id given twice counts once.
        num_rows: the number of lists the truth belongs to, B.

    Raises:
        TypeError: if an id is not an integer.
        ValueError: if there is not one entry per row, an id is negative, or a gain is outside (0, 1].
    """
    rows, items, gains = _flatten(truth, num_rows, what="truth")
    if items.size and items.min() < 0:
        row = rows[items < 0][0]
        raise ValueError(
            f"truth of row {row} holds the id {items[items < 0][0]}, which names no item. "
            "Resolve references with resolve_truth(catalog, rows): it reports what the catalogue lacks."
        )
    bad = ~((gains > 0) & (gains <= 1))
    if bad.any():
        raise ValueError(f"truth of row {rows[bad][0]} gives item {items[bad][0]} gain {gains[bad][0]}; use (0, 1].")
    return TruthTable(rows, items, gains)


def _flatten(
    entries: Sequence[Truth], num_rows: int, *, what: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Concatenate per-row ids (or gains by id) into (rows, items, gains), each item once a row."""
    if isinstance(entries, Mapping | str):
        raise TypeError(
            f"{what} must hold one entry per row; got a single {type(entries).__name__}: wrap it in a list."
        )
    if len(entries) != num_rows:
        raise ValueError(f"{what} has {len(entries)} rows, but ranked has {num_rows}: give one entry per list.")
    by_row = [_gains_by_id(entry, row, what) for row, entry in enumerate(entries)]
    rows = np.repeat(np.arange(num_rows), [len(entry) for entry in by_row])
    items = np.asarray([item for entry in by_row for item in entry])
    gains = np.asarray([gain for entry in by_row for gain in entry.values()], dtype=np.float64)
    if items.size and not np.issubdtype(items.dtype, np.integer):
        row, culprit = _first_non_integer(by_row)
        raise TypeError(
            f"{what} of row {row} holds {culprit!r}; expected integer item ids. Files name items by title or key: "
            "turn those into ids with resolve_truth(catalog, rows) or Catalog.resolve(reference)."
        )
    return rows, items.astype(np.int64), gains


def _gains_by_id(entry: Truth, row: int, what: str) -> Mapping[int, float]:
    if isinstance(entry, Mapping):
        return entry
    if isinstance(entry, str) or not isinstance(entry, Iterable):
        raise TypeError(f"{what} of row {row} is {entry!r}; expected a list of item ids, or {{item id: gain}}.")
    return dict.fromkeys(entry, 1.0)


def _first_non_integer(by_row: Sequence[Mapping[int, float]]) -> tuple[int, object]:
    return next(
        (row, item)
        for row, entry in enumerate(by_row)
        for item in entry
        if isinstance(item, bool) or not isinstance(item, int | np.integer)
    )


def _gain_of_cells(ranked: NDArray[np.int64], wanted: TruthTable) -> NDArray[np.float64]:
    """Look every cell of `ranked` up in its row's truth: one binary search over (row, item) codes."""
    if not wanted.items.size:
        return np.zeros(ranked.shape)
    span = _span(ranked, wanted.items)
    codes = wanted.rows * span + wanted.items
    order = np.argsort(codes)
    codes, gains = codes[order], wanted.gains[order]
    cells = _codes(ranked, span)
    position = np.minimum(np.searchsorted(codes, cells), len(codes) - 1)
    return np.where((codes[position] == cells) & (ranked >= 0), gains[position], 0.0)


def _span(ranked: NDArray[np.int64], items: NDArray[np.int64]) -> int:
    """Return the number of ids a row needs, so that row * span + item is unique; -1 borrows one more."""
    return 2 + max(int(ranked.max(initial=0)), int(items.max(initial=0)))


def _codes(ranked: NDArray[np.int64], span: int) -> NDArray[np.int64]:
    # -1 becomes span - 1, an id that no item has
    return np.arange(len(ranked))[:, None] * span + np.where(ranked < 0, span - 1, ranked)
