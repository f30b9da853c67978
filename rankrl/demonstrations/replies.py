"""What a teacher wrote, read as lists of titles: those the catalogue knows, those it does not, and what is no title."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from catalog import Catalog, Line, parse_list, title_key

Resolve = Callable[[Sequence[str]], NDArray[np.int64]]
"""n lines -> the item of each, -1 for none."""

_MARKED = re.compile(r"\W{0,3}(?:[0-9]{1,2}|100)\s*[.):]|[-*•‣▪–]\s")
_OPENS_WITH_TWO_NUMBERS = re.compile(r"\W{0,3}[0-9]{1,3}\s*[.):][0-9]")  # `3:10 to Yuma`, but also `2.12 Angry Men`
_SPEAKER = re.compile(
    r"^[^\S\n]*(?:\[?\|+(?:human|ai)\b[|\]:]*|(?:user|human|system|assistant|recommender(?: system)?)[^\S\n]*:)",
    re.IGNORECASE | re.MULTILINE,
)
# The word before a title's own colon has a capital: `Mad Max: Fury Road`.
_INTRODUCTION = re.compile(r".*?\b[a-z]+\s*:\s")
_AND = re.compile(r"^(?:and|or)\s+", re.IGNORECASE)
_MOST_WORDS = 15  # an unknown line of more words is a sentence


@dataclass(frozen=True, eq=False)
class RawLists:
    """A teacher's lists as numbers. C titles were named in all, by D lists of at most R titles.

    Attributes:
        titles: C texts: the catalogue's line of a known item, an unknown title as it was first written.
        same_item: `(C,)` int64, the item that each title is, -1 for one outside the catalogue.
        ranks: `(D, R)` int64, ids of the titles in list order; -1 after a list's end.
        prose: lines that stood where titles were expected and were taken for none (greetings, refusals, comments).
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

    def resolved(self, num_ranks: int) -> NDArray[np.int64]:
        """`(D, K)`: the first K of `items`, or what there is and -1."""
        items = self.items[:, :num_ranks]
        return np.pad(items, ((0, 0), (0, num_ranks - items.shape[1])), constant_values=-1)


def read_lists(
    replies: Sequence[str | None],
    catalog: Catalog,
    num_ranks: int = 20,
    *,
    resolve: Resolve | None = None,
) -> RawLists:
    """Read a teacher's answers.

    Where lines are numbered or bulleted, only those are the list. A single line, or one after an introduction that ends
    in a colon, is split at its commas, unless other lines are a list. A line without a year that the catalogue does not
    know is prose if it goes on for more than 15 words, or is written like a sentence and ends like one or has several
    commas. Of a dialogue that the teacher went on inventing, the first turn with a list counts.

    Args:
        replies: D answers; None for one that was refused or empty.
        catalog: decides which title is which item.
        num_ranks: R, titles kept of each list; what comes after them is not looked at.
        resolve: finds the items of lines; by default the catalogue's exact titles. (`catalog.match` takes misspelt ones
            for items too. Remap finds the item that a misspelt title resembles in any case; there it counts as that
            item.)

    Returns:
        The lists. Two spellings of one unknown title are one title.

    Example:
        >>> lists = read_lists(["1. Heat\\n2. Some Film That Is Not There"], Catalog([("Heat", 1995)]))
        >>> lists.items[:, :2]
        array([[ 0, -1]])
    """
    written = [_titles(reply or "") for reply in replies]
    flat = [text for lines in written for text, _ in lines]
    resolve = resolve or partial(catalog.match, min_score=None)
    found = iter(resolve(flat).tolist() if flat else [])
    ids: dict[object, int] = {}
    titles: list[str] = []
    same_item: list[int] = []
    ranks = np.full((len(replies), num_ranks), -1, dtype=np.int64)
    prose = 0
    for row, lines in enumerate(written):
        rank = 0
        for (text, line), item in zip(lines, found, strict=False):
            if rank == num_ranks:
                continue
            if item < 0 and _is_prose(text, line):
                prose += 1
                continue
            name = item if item >= 0 else (title_key(line.title), line.year)
            if name not in ids:
                ids[name] = len(titles)
                titles.append(catalog.lines[item] if item >= 0 else _title_text(line))
                same_item.append(item)
            ranks[row, rank] = ids[name]
            rank += 1
    return RawLists(titles, np.array(same_item, dtype=np.int64), ranks, prose)


def _titles(reply: str) -> list[tuple[str, Line]]:
    """The lines that may name a title, of the first turn that holds a list: their text, and how it reads."""
    turns = [_lines(turn) for turn in _SPEAKER.split(reply)]
    lists = [lines for lines in turns if len(lines) > 1] or [lines for lines in turns if lines]
    return lists[0] if lists else []


def _lines(turn: str) -> list[tuple[str, Line]]:
    """The lines of one turn that may name a title."""
    lines = [(turn[line.start : line.end], line) for line in parse_list(turn)]
    marked = [(text, line) for text, line in lines if _MARKED.match(text)]
    if sum(not _OPENS_WITH_TWO_NUMBERS.match(text) for text, _ in marked) > 1:
        return [(text, line) for text, line in marked if line.title]
    for number, (text, _) in enumerate(lines):
        others = lines[:number] + lines[number + 1 :]
        if text.count(",") > 1 and _hold_no_list(others) and (titles := _sentence(text, alone=not others)):
            return titles
    return [(text, line) for text, line in lines if line.title]


def _hold_no_list(lines: list[tuple[str, Line]]) -> bool:
    """May these lines stand around a sentence that lists the titles? Not where two of them could be titles, or one has
    a year: then they are the list, and the sentence is a remark.
    """
    titles = sum(not _is_prose(text, line) for text, line in lines)
    return titles < 2 and all(line.year is None for _, line in lines)


def _sentence(text: str, *, alone: bool) -> list[tuple[str, Line]]:
    """The titles that one line lists between commas; none where it is a title with a remark, or opens what follows."""
    introduction = _INTRODUCTION.match(text)
    if introduction is None:
        return _listed(text, introduced=False) if alone else []
    (before,) = parse_list(introduction[0])
    if before.year is not None or text.endswith(":"):  # `Heat (1995) - stars: Pacino, De Niro, Kilmer`
        return []
    return _listed(text[introduction.end() :], introduced=True)


def _listed(sentence: str, *, introduced: bool) -> list[tuple[str, Line]]:
    """The titles between the commas of a sentence; none where it reads as prose."""
    parts: list[str] = []
    for part in sentence.rstrip(" .").split(","):
        text = _AND.sub("", part.strip())
        if not text[:1].islower():
            parts.append(text)
        elif introduced and parts:  # `The Good, the Bad and the Ugly`
            parts[-1] += f", {text}"
        else:  # `I'm sorry, but I cannot help you, as ...`
            return []
    return [(text, lines[0]) for text in parts if (lines := parse_list(text)) and lines[0].title]


def _is_prose(text: str, line: Line) -> bool:
    """Is an unknown line a sentence? Titles are not long, and most of their words have capitals."""
    if not any(map(str.isalnum, line.title)):
        return True
    if line.year is not None:
        return False
    others = line.title.split()[1:]
    capitals = sum(not word[0].islower() for word in others)
    like_a_sentence = text[-1] in ".:?!" or text.count(",") > 1
    return len(others) >= _MOST_WORDS or (like_a_sentence and 2 * capitals < len(others))


def _title_text(line: Line) -> str:
    return line.title if line.year is None else f"{line.title} ({line.year})"
