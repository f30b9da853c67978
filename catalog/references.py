"""How files and callers name an item: by key, by title, or by title and year. Never by row number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catalog.titles import collapse, read_year

_FIELDS = ("id", "title", "year", "gain")
_FORMS = '"Heat (1995)", ["Heat", 1995], or {"id": "tt0113277", "title": "Heat", "year": 1995, "gain": 1.0}'


@dataclass(frozen=True, slots=True)
class ItemReference:
    """An item as a file names it. It may or may not be in a catalogue: `Catalog.resolve` finds out.

    Args:
        key: the item's key (`id` in files).
        title: its title. Where the year is `None` this may also be a whole line such as `Heat (1995)`; only a catalogue
            can tell that line from the title `Blade Runner 2049`, so it is kept as it stands.
        year: its year. A whole number given as text is read as one.
        gain: what it is worth as a truth, in (0, 1].

    Raises:
        ValueError: neither key nor title, a year that is no whole number, or a gain outside (0, 1].
    """

    key: str | None = None
    title: str | None = None
    year: int | None = None
    gain: float = 1.0

    def __post_init__(self) -> None:
        if self.key is None and self.title is None:
            raise ValueError(f"an item reference needs a key or a title; expected {_FORMS}")
        for name, value in (("key", self.key), ("title", self.title)):
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise ValueError(f"the {name} of an item reference is {value!r}; expected a text that is not blank")
        if self.title is not None:
            object.__setattr__(self, "title", collapse(self.title))
        object.__setattr__(self, "year", read_year(self.year))
        object.__setattr__(self, "gain", _read_gain(self.gain))

    @classmethod
    def parse(cls, value: Any) -> ItemReference:
        """Reads any of the forms in which files name an item.

        Args:
            value: a text (title or line); `[title, year]`; a mapping with `id` or `title` and optional `year` and
                `gain`, where `None` stands for an absent field; or an `ItemReference`, which is returned.

        Returns:
            The reference.

        Raises:
            ValueError: another form, an unknown field, or a bad value.

        Example:
            >>> ItemReference.parse(["Heat", "1995"])
            ItemReference(key=None, title='Heat', year=1995, gain=1.0)
        """
        if isinstance(value, ItemReference):
            return value
        if isinstance(value, str):
            return cls(title=value)
        if isinstance(value, Mapping):
            return cls._from_struct(value)
        if isinstance(value, (list, tuple)) and len(value) == 2:
            return cls(title=value[0], year=value[1])
        raise ValueError(f"{value!r} names no item; expected {_FORMS}")

    def to_struct(self) -> dict[str, str | int | float | None]:
        """The one form on disk: always the four fields `id`, `title`, `year` and `gain`, `None` where absent.

        JSONL, Parquet and Arrow hold it alike, with one schema for every row.
        """
        return {"id": self.key, "title": self.title, "year": self.year, "gain": self.gain}

    @classmethod
    def _from_struct(cls, struct: Mapping[str, Any]) -> ItemReference:
        if unknown := [name for name in struct if name not in _FIELDS]:
            raise ValueError(f"{dict(struct)!r} has the unknown field {unknown[0]!r}; expected {', '.join(_FIELDS)}")
        key: Any = struct.get("id")
        if isinstance(key, int) and not isinstance(key, bool):
            key = str(key)
        gain = struct.get("gain")
        return cls(key, struct.get("title"), struct.get("year"), 1.0 if gain is None else gain)


def _read_gain(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 < value <= 1:
        return float(value)
    raise ValueError(f"the gain of an item reference is {value!r}; expected a number above 0 and at most 1")
