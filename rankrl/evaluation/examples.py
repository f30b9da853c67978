"""Example dialogues for a report: each system's list, line by line, with what became of every line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from catalog import parse_list

if TYPE_CHECKING:
    from catalog import Catalog
    from rankrl.data import Dialogue

LineStatus = Literal["hit", "miss", "repeat", "seen", "unknown"]


@dataclass(frozen=True)
class ListLine:
    """One line of a list, as it was written.

    Attributes:
        text: the line.
        status: `"hit"` (wanted), `"miss"` (in the catalogue, not wanted), `"repeat"` (named before), `"seen"` (the
            user has seen it) or `"unknown"` (not in the catalogue).
    """

    text: str
    status: LineStatus


@dataclass(frozen=True)
class Example:
    """A dialogue, what its user wanted, and the list each system gave.

    Attributes:
        id: the row's id.
        messages: the turns, `{"role", "content"}`.
        truth: the wanted items as text.
        lists: per system the lines of its list.
    """

    id: str
    messages: list[dict[str, str]]
    truth: list[str]
    lists: dict[str, list[ListLine]]

    @classmethod
    def of(cls, dialogue: Dialogue, texts: Mapping[str, str], catalog: Catalog, *, num_ranks: int = 10) -> Example:
        """Build an example from a dialogue and each system's completion."""
        truth, seen = (
            {item for reference in references if (item := catalog.resolve(reference)) >= 0}
            for references in (dialogue.ground_truth, dialogue.seen)
        )
        return cls(
            id=dialogue.id,
            messages=list(dialogue.messages),
            truth=[catalog.lines[item] for item in sorted(truth)],
            lists={
                system: mark_list(text, catalog, truth=truth, seen=seen, num_ranks=num_ranks)
                for system, text in texts.items()
            },
        )


def mark_list(
    text: str, catalog: Catalog, *, truth: Collection[int], seen: Collection[int] = (), num_ranks: int = 10
) -> list[ListLine]:
    """Return the first `num_ranks` lines of a completion with their status.

    Args:
        text: the completion.
        catalog: decides which line is which item; exact matches only.
        truth: ids of the wanted items.
        seen: ids of the items the user has seen.
        num_ranks: lines to return at most.
    """
    lines = parse_list(text)[:num_ranks]
    items = catalog.ranked([text], num_ranks)[0, : len(lines)].tolist()
    statuses = [_status(item, items[:rank], truth, seen) for rank, item in enumerate(items)]
    return [ListLine(text[line.start : line.end], status) for line, status in zip(lines, statuses, strict=True)]


def _status(item: int, earlier: list[int], truth: Collection[int], seen: Collection[int]) -> LineStatus:
    if item < 0:
        return "unknown"
    if item in earlier:
        return "repeat"
    if item in seen:
        return "seen"
    return "hit" if item in truth else "miss"
