"""A completion's text, read as lines: the rank rule, and what a line says once its decoration is gone.

Lines end at `\\n` alone, and a line is blank when `bytes.strip()` would leave nothing of it. Whatever else is odd about
a line, it counts.
"""

from __future__ import annotations

import re
from typing import NamedTuple

ASCII_WHITE_SPACE = " \t\n\r\v\f"  # what bytes.strip() removes; str.strip() would remove more

_YEAR = r"((?:1[0-9]|20|21)[0-9][0-9])"
_BRACKETED_YEAR = re.compile(
    rf"[(\[（【](?:\s{{0,3}}{_YEAR}(?!\w)[^()\[\]（）【】]{{0,40}}|[^()\[\]（）【】]{{1,60}},\s{{0,3}}{_YEAR}\s{{0,3}})[)\]）】]"
)
_LOOSE_YEAR = re.compile(r"(?:(?<=\s)[-–—]|,)\s{0,3}((?:18|19|20)[0-9][0-9])(?=\s{0,3}(?:$|[-–—:;,(]))")
_BARE_YEAR = re.compile(r"\s{1,3}((?:18|19|20)[0-9][0-9])(?!\w)")

_BULLET = re.compile(r"(?:[-*+•‣◦▪●○·–—>]|#{1,6})\s+(?=\S)")
_NUMBER = re.compile(
    r"(?:#\s?[0-9]{1,3}[.):]?|\([0-9]{1,3}\)|\[[0-9]{1,3}\]|[0-9]{1,3}\\?[.)]{1,2}|[0-9]{1,2}:)\s+(?=\S)"
    r"|[0-9]{1,3}[.)](?=[^\W\d]|[\"'“‘«*_])"  # `1.Heat`, not `3.14`
    r"|[0-9]{1,3}\s+[-–—]\s+(?=\S)(?![0-9]{4}$)"  # `1 - Heat`, but `21 - 2008` is a title and its year
)
_NUMBER_ALONE = re.compile(r"[0-9]{1,2}[.)]")
_EMPHASIS = re.compile(r"(\*{1,3}|_{1,3}|`)(?![\s*_`])(.+?)(?<!\s)\1(?![\w*_`])")
_CLOSING_QUOTE = dict(zip("\"'“‘„”«‹「『《", "\"'”’“”»›」』》", strict=True))
_AFTER_TITLE = re.compile(r"\s*(?:$|[-–—:;,.(\[（【]|(?:18|19|20)[0-9][0-9](?!\w))")
_MOST_DECORATIONS = 8  # bounds the work on a line of a million bullets
_CUT_ENDS = ASCII_WHITE_SPACE + "\u00a0-–—:;,|"


class Line(NamedTuple):
    """One non-blank line of a completion.

    Args:
        title: its title, without numbering, quotes, emphasis, year and remarks. Empty where nothing is left (`7.`).
        year: the year it gives, or `None`.
        start: offset of its first character in the text.
        end: offset after its last character; `text[start:end]` is the line without the ASCII white space around it.
    """

    title: str
    year: int | None
    start: int
    end: int


class Reading(NamedTuple):
    """What a line may say.

    Args:
        title: its title, as far as that can be told without a catalogue.
        year: the year it gives, or `None`.
        body: the line without numbering, bullets, quotes and emphasis.
        candidates: `(title, year)` pairs for a catalogue, which takes the first it knows. Longer titles come first:
            only a catalogue can tell `Argentina, 1985` (a title) from `Heat, 1995` (a title and its year). The number
            of a numbered line comes back last: `12. Angry Men (1957)`.
    """

    title: str
    year: int | None
    body: str
    candidates: tuple[tuple[str, int | None], ...]


def parse_list(text: str) -> list[Line]:
    """The lines of a completion, in order: line k is rank k.

    Understands numbering (`1.`, `1)`, `(1)`, `#1`), bullets, straight and curly quotes, bold and italics, `Title
    (1999)`, `Title [1999]`, `Title - 1999`, `Title, 1999`, and remarks after the year or after a quoted or bold title.
    Never raises, whatever the text.

    Args:
        text: the completion.

    Returns:
        One `Line` per non-blank line. Lines end at `\\n` alone; a line is blank if it holds nothing but ASCII white
        space.

    Example:
        >>> parse_list('1. "Heat" (1995) - a classic\\n\\n300')
        [Line(title='Heat', year=1995, start=0, end=28), Line(title='300', year=None, start=30, end=33)]
    """
    lines = []
    offset = 0
    for piece in text.split("\n"):
        if bare := piece.strip(ASCII_WHITE_SPACE):
            start = offset + len(piece) - len(piece.lstrip(ASCII_WHITE_SPACE))
            reading = read_line(bare)
            lines.append(Line(reading.title, reading.year, start, start + len(bare)))
        offset += len(piece) + 1
    return lines


def split_lines(text: str) -> list[str]:
    """The non-blank lines of `text` without the ASCII white space around them: `parse_list` without the reading."""
    return [bare for piece in text.split("\n") if (bare := piece.strip(ASCII_WHITE_SPACE))]


def read_line(line: str) -> Reading:
    """Reads one line, already stripped of ASCII white space.

    Args:
        line: the line.

    Returns:
        What it may say.
    """
    if line[:1].isalpha():
        body, number, title_end = line, None, None
    else:
        body, number, title_end = _undecorate(line)
    candidates = _candidates(body, title_end)
    title, year = candidates[-1]
    if number is not None:
        longest, its_year = candidates[0]
        candidates = (*candidates, (number + longest, its_year))
    return Reading(title, year, body, candidates)


def _candidates(body: str, title_end: int | None) -> tuple[tuple[str, int | None], ...]:
    """What an undecorated line may say, longest title first; a quoted or emphasised title ended at `title_end`."""
    bracket = _BRACKETED_YEAR.search(body, 1)
    if bracket:
        year = int(bracket[1] or bracket[2])
        whole = body[: bracket.start()].rstrip(_CUT_ENDS)
        if title_end is None or title_end >= bracket.start():
            return ((whole, year),)
        return ((whole, year), (body[:title_end].rstrip(_CUT_ENDS), year))
    loose = _LOOSE_YEAR.search(body, 1)
    if loose is None and title_end is not None:
        loose = _BARE_YEAR.match(body, title_end)
    if loose:
        cut = loose.start() if title_end is None else min(loose.start(), title_end)
        return ((body, None), (body[:cut].rstrip(_CUT_ENDS), int(loose[1])))
    if title_end is not None and title_end < len(body):
        return ((body, None), (body[:title_end].rstrip(_CUT_ENDS), None))
    return ((body, None),)


def _undecorate(line: str) -> tuple[str, str | None, int | None]:
    """Takes bullets, one number, quotes and emphasis off the front of a line.

    Returns:
        The body; the number that was taken off, if any; and where in the body a quoted or emphasised title ended, if
        one did and a year, a remark or nothing follows.
    """
    body, number, title_end = line.strip(), None, None
    if _NUMBER_ALONE.fullmatch(body):  # an empty entry of a list, not the film "9"
        return "", None, None
    for _ in range(_MOST_DECORATIONS):
        if not body or body[0].isalpha():
            break
        if prefix := _BULLET.match(body):
            pass
        elif number is None and (prefix := _NUMBER.match(body)):
            number = prefix[0]
        elif unwrapped := _unwrap(body):
            body, title_end = unwrapped
            continue
        else:
            break
        body = body[prefix.end() :]
        title_end = None if title_end is None or title_end <= prefix.end() else title_end - prefix.end()
    if body.startswith("**") and len(body) > 2:  # emphasis that was never closed
        body = body[2:].lstrip()
        title_end = None
    return body, number, title_end


def _unwrap(body: str) -> tuple[str, int | None] | None:
    """Removes the quotes or the emphasis a line starts with: the line without them, and where the title ends."""
    if emphasis := _EMPHASIS.match(body):
        inside, rest = emphasis[2], body[emphasis.end() :]
        return inside + rest, len(inside) if _AFTER_TITLE.match(rest) else None
    closing = _CLOSING_QUOTE.get(body[0])
    end = body.find(closing, 2) if closing else -1
    while closing and end > 0:
        if _AFTER_TITLE.match(body, end + 1):  # `"Crocodile" Dundee` goes on: its quotes are its own
            inside = body[1:end].strip()
            return (inside + body[end + 1 :], len(inside)) if inside else None
        end = body.find(closing, end + 1)
    return None
