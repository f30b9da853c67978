"""Titles and years in the form in which they are compared.

A key keeps the letters and digits of every script and drops the rest, so that `Spider-Man`, `Spider Man` and
`SPIDERMAN` are one title. Words are not kept apart: `E.T.`, `ET` and `E. T.` would otherwise be three.
"""

from __future__ import annotations

import math
import operator
import re
import unicodedata
from typing import Any

# Reported, never refused: the Odyssey (-720) is as real as a typing error such as 201 for 2010.
PLAUSIBLE_YEARS = range(1000, 2101)

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(\.0*)?")
_QUOTES = "\"'“”‘’«»"
_LEADING_ARTICLES = ("the ", "a ", "an ")
# Not `die`, for the sake of `Die, Monster, Die`.
_TRAILING_ARTICLES = tuple(
    f", {word}" for word in "the a an le la les l' l\u2019 un une el los las il lo gli der das den det".split()
)

_NUMBER_OR_WORD = re.compile(r"[0-9]+|[^\W\d_]+")
_ROMAN = "i ii iii iv v vi vii viii ix x xi xii xiii xiv xv xvi xvii xviii xix xx".split()
_WORDS = "one two three four five six seven eight nine ten".split()
_NUMERALS = {word: value for words in (_ROMAN, _WORDS) for value, word in enumerate(words, start=1)}

# On a letter that is neither Latin nor Greek a mark makes another letter (й, が); everywhere else it is an accent.
_ACCENTS = re.compile("(?<![^\\W\\d_a-z\u00df-\u024f\u0370-\u03ff])[\u0300-\u036f]+")
_LETTERS_WITHOUT_DECOMPOSITION = str.maketrans(
    {"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ё": "е"}
)


class _LettersAndDigits(dict[int, "int | str | None"]):
    """Translation table, filled as characters are met: letters, digits and their marks stay, all else goes."""

    def __missing__(self, codepoint: int) -> int | None:
        kept = codepoint if unicodedata.category(chr(codepoint))[0] in "LNM" else None
        self[codepoint] = kept
        return kept


_COMPACT = _LettersAndDigits({ord("&"): "and"})


def collapse(text: str) -> str:
    """`text` on one line: each run of white space (line breaks too) becomes one blank, none at the ends."""
    return " ".join(text.split())


def spelling(title: str) -> str:
    """The letters and digits of `title` in its own word order, article included: `Matrix, The` gives `thematrix`.

    Args:
        title: any text.

    Returns:
        The folded text; the lower-cased title itself where no letter or digit would be left (`!!!`).
    """
    folded = _in_reading_order(_fold_case(title))
    return folded.translate(_COMPACT) or collapse(title.casefold())


def title_key(title: str) -> str:
    """The key under which titles are compared: `spelling` without a leading English article.

    Case, accents, punctuation, `&` against `and`, and the place or absence of an article do not matter; letters of
    other scripts and digits do.

    Args:
        title: a title, without its year.

    Returns:
        The key. Equal keys mean "the same title, spelt another way".

    Example:
        >>> title_key("Matrix, The"), title_key("Fast & Furious"), title_key("Amélie"), title_key("!!!")
        ('matrix', 'fastandfurious', 'amelie', '!!!')
    """
    folded = _in_reading_order(_fold_case(title))
    if folded.startswith(_LEADING_ARTICLES):
        without_article = folded[folded.index(" ") :].translate(_COMPACT)
        if without_article:
            return without_article
    return folded.translate(_COMPACT) or collapse(title.casefold())


def numbers(title: str) -> tuple[int, ...]:
    """The numbers a title names, in order: digits, Roman numerals up to 20, and number words up to ten.

    `Rocky II` and `Rocky III` are one letter apart, as a spelling mistake would be; their numbers tell them apart.

    Args:
        title: a title.

    Returns:
        The numbers, so that `numbers("Toy Story 2") == numbers("Toy Story II")`.
    """
    words = _NUMBER_OR_WORD.findall(_fold_case(title))
    # Python refuses to read thousands of digits, which a model that has lost its way may well write.
    return tuple(_NUMERALS.get(word) or int(word[:18]) for word in words if word in _NUMERALS or word.isdecimal())


def read_year(value: Any) -> int | None:
    """Reads a year the way files hold it: a number, a text, or nothing.

    Args:
        value: `None`, a blank text or NaN for "no year"; an integer; a float or a text that is a whole number
            (`"1995"`, `1995.0`, `"1995.0"` as pandas writes a column with gaps).

    Returns:
        The year, or `None`.

    Raises:
        ValueError: the value is no whole number.
    """
    if value is None or type(value) is int:
        return value
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        if _WHOLE_NUMBER.fullmatch(text):
            return int(text.partition(".")[0])
    elif isinstance(value, bool):
        pass
    elif hasattr(value, "__index__"):
        return operator.index(value)
    elif hasattr(value, "__float__"):
        number = float(value)
        if math.isnan(number):
            return None
        if number.is_integer():
            return int(number)
    raise ValueError(f"the year is {value!r}; expected a whole number such as 1995, or nothing (null, empty in CSV)")


def _fold_case(text: str) -> str:
    """Lower case without accents, compatibility forms (full-width letters, fractions, ...) and quotes in front."""
    if text.isascii():
        lowered = text.lower()
    else:
        decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
        lowered = unicodedata.normalize("NFC", _ACCENTS.sub("", decomposed)).translate(_LETTERS_WITHOUT_DECOMPOSITION)
    return lowered.strip().lstrip(_QUOTES)


def _in_reading_order(folded: str) -> str:
    """`matrix, the` as `the matrix`."""
    if ", " not in folded or not folded.endswith(_TRAILING_ARTICLES):
        return folded
    title, _, article = folded.rpartition(", ")
    return f"{article} {title}"
