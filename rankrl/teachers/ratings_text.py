"""A judge's answer, read strictly: one `line####rating` a line, and nothing else counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from catalog import title_key
from catalog.parsing import read_line, split_lines
from rankrl.teachers.prompts import RATING_MARK, Scale

NO_RATING = "no rating"
NOT_SHOWN = "not in the window"
OFF_SCALE = "outside the scale"
REPEATED = "repeated"

_LEVEL = re.compile(r"([+-]?[0-9]{1,3})\s*(?:\|(.*))?")
_MINUS = str.maketrans("−–", "--")
_FENCE = re.compile(r"`{3}\w*")


@dataclass(frozen=True)
class ParsedRatings:
    """What an answer says about the n lines it was asked about.

    Attributes:
        levels: n ratings; None for a line that was not rated.
        reasons: n texts; `""` without one.
        ignored: how many lines counted for nothing, by reason: no `####`, text that is not one of the lines, a rating
            off the scale, a line rated before (its first rating stands).
    """

    levels: list[int | None]
    reasons: list[str]
    ignored: dict[str, int]


def parse_ratings(text: str, window: Sequence[str], scale: Scale) -> ParsedRatings:
    """Read a judge's answer.

    A line counts if the text before its last `####` is one of the window's lines, and what follows is a level of the
    scale, alone or with `| reason`. Numbering, bullets, quotes and emphasis around the text do not matter, nor do case,
    accents, punctuation and a leading article, as everywhere in the catalogue; any other difference, such as a missing
    year or an added remark, does, and so does text that could mean two lines of the window.

    Args:
        text: the answer; any text at all.
        window: the n lines that were shown, no two alike.
        scale: the allowed levels.

    Example:
        >>> parse_ratings("1. Heat (1995)####2\\nUp####1", ["Up (2009)", "Heat (1995)"], {2: "good", 1: "bad"})
        ParsedRatings(levels=[None, 2], reasons=['', ''], ignored={'not in the window': 1})
    """
    exact = {line.strip(): place for place, line in enumerate(window)}
    places_of = Counter(map(title_key, window))
    normalised = {title_key(line): place for place, line in enumerate(window) if places_of[title_key(line)] == 1}
    levels: list[int | None] = [None] * len(window)
    reasons = [""] * len(window)
    ignored: Counter[str] = Counter()
    for line in split_lines(text):
        if _FENCE.fullmatch(line):
            continue
        named, mark, rated = line.rpartition(RATING_MARK)
        place = _place(named.strip(), exact, normalised) if mark else None
        level = _LEVEL.fullmatch(rated.strip().strip("*_`").translate(_MINUS))
        if not mark:
            ignored[NO_RATING] += 1
        elif place is None:
            ignored[NOT_SHOWN] += 1
        elif level is None or int(level[1]) not in scale:
            ignored[OFF_SCALE] += 1
        elif levels[place] is not None:
            ignored[REPEATED] += 1
        else:
            levels[place], reasons[place] = int(level[1]), (level[2] or "").strip()
    return ParsedRatings(levels, reasons, dict(ignored))


def _place(named: str, exact: dict[str, int], normalised: dict[str, int]) -> int | None:
    """Whose line this is; the whole text goes before the text without its number: `12 Angry Men` is a title."""
    if named in exact:
        return exact[named]
    for text in (named, read_line(named).body):
        if (place := normalised.get(title_key(text))) is not None:
            return place
    return None
