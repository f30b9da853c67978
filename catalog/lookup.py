"""Exact look-up: a line or a title with its year to an item id, one dictionary hit at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from catalog.items import Item
from catalog.parsing import read_line
from catalog.titles import spelling, title_key


class TitleIndex:
    """Finds items by line, or by title and year.

    Args:
        items: the items; an id is a position in this sequence.
        lines: their lines, all different.

    Attributes:
        line_ids: line -> item id.
        groups: title key -> ids of the items with that title or alias, ascending.
    """

    def __init__(self, items: Sequence[Item], lines: Sequence[str]) -> None:
        self._items = items
        self._lines = lines
        self.line_ids: dict[str, int] = {line: item_id for item_id, line in enumerate(lines)}
        groups: dict[str, list[int]] = {}
        for item_id, item in enumerate(items):
            for key in dict.fromkeys(title_key(title) for title in (item.title, *item.aliases)):
                groups.setdefault(key, []).append(item_id)
        self.groups = {key: tuple(group) for key, group in groups.items()}

    def find_line(self, line: str, year_tolerance: int = 0) -> int:
        """The item a line names: the line itself, the line without decoration, then what it may say.

        Args:
            line: one line, stripped of ASCII white space.
            year_tolerance: as in `find`.

        Returns:
            The item id, or -1.
        """
        item_id = self.line_ids.get(line, -1)
        if item_id >= 0:
            return item_id
        reading = read_line(line)
        item_id = self.line_ids.get(reading.body, -1)
        if item_id >= 0:
            return item_id
        for title, year in reading.candidates:
            item_id = self.find(title, year, year_tolerance, line=reading.body)
            if item_id >= 0:
                return item_id
        return -1

    def find(self, title: str, year: int | None, year_tolerance: int = 0, *, line: str | None = None) -> int:
        """The item with this title and year; `Catalog.find` states the rules.

        Args:
            title: the title.
            year: its year, or `None`.
            year_tolerance: how many years an item's year may be off.
            line: the text the title was read from; settles what title and year leave open.

        Returns:
            The item id, or -1.
        """
        if not isinstance(title, str):
            raise TypeError(f"title is {title!r}; expected a text. A list of texts is for `Catalog.match`.")
        group = self.groups.get(title_key(title))
        if group is None:
            return -1
        return self.decide(group, title, year, year_tolerance, line)

    def decide(
        self, group: Sequence[int], title: str, year: int | None, year_tolerance: int = 0, line: str | None = None
    ) -> int:
        """The one item of `group` (ids with one title key) that is meant by this title and year, or -1."""
        if len(group) == 1 and (year is None or self._items[group[0]].year == year):
            return group[0]
        same_titled = self._nearest_year(group, year, year_tolerance)
        return same_titled[0] if len(same_titled) == 1 else self._same_spelling(same_titled, title, line)

    def some_title(self, key: str) -> str:
        """A title or an alias that has this key."""
        item = self._items[self.groups[key][0]]
        return next(text for text in (item.title, *item.aliases) if title_key(text) == key)

    def _nearest_year(self, group: Sequence[int], year: int | None, year_tolerance: int) -> list[int]:
        """Same year first (no year counts as one), then the nearest within the tolerance, then items without a year."""
        years = [self._items[item_id].year for item_id in group]
        if year in years:
            return [item_id for item_id, other in zip(group, years, strict=True) if other == year]
        if year is None:
            return list(group)
        distances = [year_tolerance + 1 if other is None else abs(other - year) for other in years]
        nearest = min(distances)
        if nearest <= year_tolerance:
            return [item_id for item_id, distance in zip(group, distances, strict=True) if distance == nearest]
        return [item_id for item_id, other in zip(group, years, strict=True) if other is None]

    def _same_spelling(self, item_ids: Sequence[int], title: str, line: str | None) -> int:
        """The only one of several items that is spelt like the text: to the letter, else up to case and punctuation."""
        spelt = spelling(title)
        line_spelt = spelt if line is None else spelling(line)
        agreements: tuple[Callable[[int], bool], ...] = (
            lambda item_id: self._items[item_id].title == title,
            lambda item_id: title in self._items[item_id].aliases,
            lambda item_id: self._items[item_id].title.casefold() == title.casefold(),
            lambda item_id: spelling(self._lines[item_id]) == line_spelt,
            lambda item_id: spelling(self._items[item_id].title) == spelt,
        )
        for agrees in agreements:
            agreeing = [item_id for item_id in item_ids if agrees(item_id)]
            if len(agreeing) == 1:
                return agreeing[0]
        return -1
