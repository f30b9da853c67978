"""What a catalogue is made of, and how its errors read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from catalog.titles import read_year

_SHOWN_PROBLEMS = 100


class CatalogError(ValueError):
    """The data cannot be used as it is. Lists every problem, each with its place, value and what was expected.

    Attributes:
        problems: one sentence per problem, all of them (the message shows the first 100).
    """

    def __init__(self, summary: str, problems: Sequence[str] = ()) -> None:
        self.summary = summary
        self.problems = list(problems)
        hidden = len(self.problems) - _SHOWN_PROBLEMS
        shown = self.problems[:_SHOWN_PROBLEMS] + ([f"... and {hidden:,} more (see .problems)"] if hidden > 0 else [])
        super().__init__("\n  ".join([summary, *shown]))

    def __reduce__(self) -> tuple[type[CatalogError], tuple[str, list[str]]]:
        return type(self), (self.summary, self.problems)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be recommended.

    Args:
        title: its name, not blank.
        year: year of release, `None` if unknown. A whole number given as text is read as one.
        key: the user's own id. A catalogue fills in the item's line where it is `None`.
        aliases: other titles of the same item.
        metadata: anything else known about it. `alias_ids` (a list of texts) are further keys of the same item; every
            field can be named in a line template.

    Raises:
        ValueError: a blank title, a year that is no whole number, or aliases that are no list of texts.
    """

    title: str
    year: int | None = None
    key: str | None = None
    aliases: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.title, str) or not self.title.strip():
            raise ValueError(f"the title is {self.title!r}; expected a text that is not blank")
        if self.year is not None:
            object.__setattr__(self, "year", read_year(self.year))
        if self.key is not None and (not isinstance(self.key, str) or not self.key):
            raise ValueError(f"the key is {self.key!r}; expected a text that is not empty, or None")
        if self.aliases:
            object.__setattr__(self, "aliases", _texts(self.aliases, "aliases"))

    @property
    def alias_keys(self) -> tuple[str, ...]:
        """Further keys under which files may name this item (`alias_ids` in its metadata)."""
        ids = self.metadata.get("alias_ids")
        return _texts(ids, "alias_ids") if ids else ()


def _texts(values: Any, name: str) -> tuple[str, ...]:
    if isinstance(values, (list, tuple)) and all(isinstance(value, str) and value.strip() for value in values):
        return tuple(values)
    raise ValueError(f"{name} is {values!r}; expected a list of texts, none of them blank")
