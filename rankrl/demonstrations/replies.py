"""What a teacher wrote, read as lists of titles: those the catalogue knows, those it does not, and what is no title."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalog import Catalog, Line, parse_list, title_key

_MARKED = re.compile(r"\W{0,3}[0-9]{1,3}\s*[.):]|[-*•‣▪–]\s")
_AND = re.compile(r"^(?:and|or)\s+", re.IGNORECASE)
_MOST_WORDS = 15  # an unknown line of more words is a sentence


@dataclass(frozen=True, eq=False)
class RawLists:
    """A teacher's lists as numbers. C titles were named in all, by D lists of at most R titles.

    Attributes:
        titles: C texts: the catalogue's line of a known item, an unknown title as it was first written.
        same_item: `(C,)` int64, the item that each title is, -1 for one outside the catalogue.
        ranks: `(D, R)` int64, ids of the titles in list order; -1 after a list's end.
        prose: lines that were taken for no title (greetings, refusals, comments).
    """

    titles: list[str]
    same_item: NDArray[np.int64]
    ranks: NDArray[np.int64]
    prose: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        """`(D,)`: titles in each list; 0 for an answer that held none."""
        return (self.ranks >= 0).sum(axis=1)

    @property
    def items(self) -> NDArray[np.int64]:
        """`(D, R)`: the lists as the catalogue alone resolves them, -1 for what is outside it."""
        if not self.titles:
            return self.ranks
        return np.where(self.ranks >= 0, self.same_item[self.ranks], -1)


def read_lists(
    replies: Sequence[str | None], catalog: Catalog, num_ranks: int = 20, *, min_score: float | None = None
) -> RawLists:
    """Read a teacher's answers.

    Where lines are numbered or bulleted, only those are the list. A single line is split at its commas. An unknown line
    that ends in a full stop or a colon, or goes on for more than 15 words, is prose.

    Args:
        replies: D answers; None for one that was refused or empty.
        catalog: decides which title is which item.
        num_ranks: R, titles kept of each list.
        min_score: also accept misspelt titles, from this score on; exact ones only by default. (Remap finds the item
            that a misspelt title resembles in any case; here it would count as that item.)

    Returns:
        The lists. Two spellings of one unknown title are one title.

    Example:
        >>> lists = read_lists(["1. Heat\\n2. Some Film That Is Not There"], Catalog([("Heat", 1995)]))
        >>> lists.items[:, :2]
        array([[ 0, -1]])
    """
    written = [_lines(reply or "") for reply in replies]
    flat = [line for lines in written for line in lines]
    found = catalog.ranked([text for text, _ in flat], 1, min_score=min_score)[:, 0].tolist() if flat else []
    items = iter(found)
    ids: dict[object, int] = {}
    titles: list[str] = []
    same_item: list[int] = []
    ranks = np.full((len(replies), num_ranks), -1, dtype=np.int64)
    prose = 0
    for row, lines in enumerate(written):
        rank = 0
        for text, line in lines:
            item = next(items)
            if item < 0 and _is_prose(text, line):
                prose += 1
                continue
            name = item if item >= 0 else (title_key(line.title), line.year)
            if name not in ids:
                ids[name] = len(titles)
                titles.append(catalog.lines[item] if item >= 0 else _title_text(line))
                same_item.append(item)
            if rank < num_ranks:
                ranks[row, rank] = ids[name]
                rank += 1
    return RawLists(titles, np.array(same_item, dtype=np.int64), ranks, prose)


def _lines(reply: str) -> list[tuple[str, Line]]:
    """The lines of a reply that may name a title: their text, and how it reads."""
    lines = [(reply[line.start : line.end], line) for line in parse_list(reply)]
    marked = [(text, line) for text, line in lines if _MARKED.match(text)]
    if len(marked) > 1:
        return [(text, line) for text, line in marked if line.title]
    if len(lines) == 1 and lines[0][0].count(",") > 1:
        text = lines[0][0].rpartition(": ")[2].rstrip(".")
        parts = (_AND.sub("", part.strip()) for part in text.split(","))
        return [(part, parse_list(part)[0]) for part in parts if part]
    return [(text, line) for text, line in lines if line.title]


def _is_prose(text: str, line: Line) -> bool:
    if line.year is not None:
        return False
    words = line.title.split()
    return len(words) > _MOST_WORDS or (len(words) > 2 and text[-1] in ".:") or not title_key(line.title)


def _title_text(line: Line) -> str:
    return line.title if line.year is None else f"{line.title} ({line.year})"
