"""From the item references that files hold to the ids of a catalogue, loudly where the catalogue lacks an item."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from catalog import ItemReference, title_key

if TYPE_CHECKING:
    from catalog import Catalog

logger = logging.getLogger(__name__)

NUM_EXAMPLES = 5
_ENOUGH = 32  # distinct references: the catalogue that knows none of them is another data set's


class TruthResolver:
    """Turn rows of item references into `{item id: gain}`, remembering every reference it has met.

    Counts are of *distinct* references over all calls, so that the copies of a prompt and the epochs of a training run
    do not move the share. References the catalogue lacks are reported by one warning per call that meets new ones.

    Args:
        catalog: the catalogue that decides what exists.
        year_tolerance: years by which a reference may miss the catalogue's year.
        unknown_limit: share of the distinct references that may be unknown, in [0, 1]; above it the call is an error.
            Whatever the limit, it is an error if no reference is known at all: nothing could ever be earned.
        column: what the rows are called in messages.
        allow_empty: accept rows without a reference, as labels that complete a truth may be.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        year_tolerance: int = 0,
        unknown_limit: float = 1.0,
        column: str = "ground_truth",
        allow_empty: bool = False,
    ) -> None:
        if not 0 <= unknown_limit <= 1:
            raise ValueError(f"unknown_limit is {unknown_limit}; it is a share of the ground truth, from 0 to 1.")
        if year_tolerance < 0:
            raise ValueError(f"year_tolerance is {year_tolerance}; it is a number of years, 0 or more.")
        self.catalog = catalog
        self.year_tolerance = year_tolerance
        self.unknown_limit = unknown_limit
        self.column = column
        self.allow_empty = allow_empty
        self._items: dict[tuple[str | None, str | None, int | None], int] = {}
        self._unknown: list[ItemReference] = []

    def truth(self, rows: Sequence[Iterable[Any]], *, in_part: bool = False) -> list[dict[int, float]]:
        """Return what each row's user wanted.

        Args:
            rows: per row the item references, in any form that `ItemReference.parse` takes.
            in_part: the rows are one batch of many, which may be an unlucky one: that no reference is known is a
                warning until there were 32.

        Returns:
            Per row `{item id: gain}`; empty for a row of which the catalogue has nothing (the warning counts them).
            If two references of a row name the same item, the higher gain counts.

        Raises:
            ValueError: if a row has no reference or one that cannot be read, if more references than `unknown_limit`
                are unknown, or if all are.
        """
        num_reported = len(self._unknown)
        resolved = _once_per_distinct_row(rows, self._truth_of_row)
        if len(self._unknown) > num_reported:
            lost = len(self._unknown) == len(self._items) and (not in_part or len(self._items) >= _ENOUGH)
            self._report(lost=lost, num_empty=sum(not truth for truth in resolved), num_rows=len(rows))
        return resolved

    def seen(self, rows: Sequence[Iterable[Any] | None]) -> list[set[int]]:
        """Return the ids of the items each row's user has seen; what the catalogue lacks cannot be earned anyway.

        Of a title without a year that several items have, all of them: one was seen, and none must pay.
        """
        return _once_per_distinct_row(rows, self._seen_of_row)

    def _truth_of_row(self, row: Iterable[Any] | None, position: int) -> dict[int, float]:
        references = _parse_row(row, position, column=self.column)
        if not references and not self.allow_empty:
            raise ValueError(
                f"{self.column} of row {position} is empty, so no list could ever earn anything there. "
                f"Drop such rows: dataset.filter(lambda row: row[{self.column!r}])."
            )
        truth: dict[int, float] = {}
        for reference in references:
            item = self._find(reference)
            if item >= 0:
                truth[item] = max(reference.gain, truth.get(item, 0.0))
        return truth

    def _seen_of_row(self, row: Iterable[Any] | None, position: int) -> set[int]:
        references = _parse_row(row, position, column="seen") if row is not None else []
        items: set[int] = set()
        for reference in references:
            item = self.catalog.resolve(reference, year_tolerance=self.year_tolerance)
            items.update([item] if item >= 0 else self._namesakes(reference))
        return items

    def _namesakes(self, reference: ItemReference) -> tuple[int, ...]:
        """The items that a title without a year may mean."""
        if reference.title is None or reference.year is not None:
            return ()
        return self.catalog.title_index.groups.get(title_key(reference.title), ())

    def _find(self, reference: ItemReference) -> int:
        name = (reference.key, reference.title, reference.year)
        if name not in self._items:
            self._items[name] = self.catalog.resolve(reference, year_tolerance=self.year_tolerance)
            if self._items[name] < 0:
                self._unknown.append(reference)
        return self._items[name]

    def _report(self, *, lost: bool, num_empty: int, num_rows: int) -> None:
        share = len(self._unknown) / len(self._items)
        examples = ", ".join(
            _name(reference) + (" (which several have: say the year)" if self._namesakes(reference) else "")
            for reference in self._unknown[:NUM_EXAMPLES]
        )
        kind = self.column.replace("_", "-")
        # rows that may be empty earn by other labels too
        effect, at_worst = (
            ("keep none", "Not one of these labels could ever count.")
            if self.allow_empty
            else ("keep no item and can earn nothing", "Every reward would be zero.")
        )
        message = (
            f"{len(self._unknown)} of {len(self._items)} distinct {kind} items ({share:.1%}) are not in the "
            f"catalogue of {len(self.catalog)} items, for example {examples}. {num_empty} of {num_rows} rows {effect}."
        )
        way_out = (
            "Is it the catalogue of this data set? Add the items or aliases to it, allow a year_tolerance, "
            "or drop the rows."
        )
        if lost:
            raise ValueError(f"{message} {at_worst} {way_out}")
        if share > self.unknown_limit:
            raise ValueError(f"{message} That is more than unknown_limit={self.unknown_limit:g} allows. {way_out}")
        logger.warning("%s %s", message, way_out)


def resolve_truth(
    catalog: Catalog,
    ground_truth: Sequence[Iterable[Any]],
    *,
    year_tolerance: int = 0,
    unknown_limit: float = 1.0,
) -> list[dict[int, float]]:
    """Turn rows of item references into `{item id: gain}` in one go; see `TruthResolver`.

    Example:
        >>> from catalog import Catalog
        >>> resolve_truth(Catalog([("Heat", 1995), ("Up", 2009)]), [["Up (2009)"], [{"title": "Heat", "gain": 0.5}]])
        [{1: 1.0}, {0: 0.5}]
    """
    return TruthResolver(catalog, year_tolerance=year_tolerance, unknown_limit=unknown_limit).truth(ground_truth)


def _once_per_distinct_row(rows: Sequence[Any], resolve: Any) -> list[Any]:
    """Resolve each distinct row once: a batch repeats every prompt G times."""
    by_text: dict[str, Any] = {}
    resolved = []
    for position, row in enumerate(rows):
        if isinstance(row, Iterable) and not isinstance(row, str | dict):
            row = list(row)  # the text of a long array or Series leaves its middle out
        text = repr(row)
        if text not in by_text:
            by_text[text] = resolve(row, position)
        resolved.append(by_text[text])
    return resolved


def _parse_row(row: Any, position: int, *, column: str) -> list[ItemReference]:
    if row is None:
        return []
    if isinstance(row, str | dict) or not isinstance(row, Iterable):
        raise ValueError(
            f"{column} of row {position} is {row!r}; expected a list of item references, such as "
            '[{"id": "...", "title": "Heat", "year": 1995}].'
        )
    try:
        return [ItemReference.parse(reference) for reference in row]
    except ValueError as error:
        raise ValueError(f"{column} of row {position}: {error}") from error


def _name(reference: ItemReference) -> str:
    year = f" ({reference.year})" if reference.year is not None else ""
    return f"'{reference.title or reference.key}{year}'"
