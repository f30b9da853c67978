import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.titles import collapse, numbers, read_year, spelling, title_key

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too


@pytest.mark.parametrize(
    "spellings",
    [
        ["The Matrix", "Matrix, The", "the MATRIX", "Matrix", "  The   Matrix ", "“The Matrix”"],
        ["Fast & Furious", "Fast and Furious", "FAST AND FURIOUS", "Fast ＆ Furious"],
        ["Amélie", "Amelie", "Ame\u0301lie", "AMÉLIE"],
        ["Spider-Man: No Way Home", "Spider Man - No Way Home", "Spiderman No Way Home"],
        ["Schindler's List", "Schindler’s List", "Schindlers List"],
        ["E.T. the Extra-Terrestrial", "ET the Extra Terrestrial"],
        ["Das Boot", "Boot, Das"],
        ["L'Avventura", "Avventura, L'", "Avventura, L’"],
        ["The Naked Gun 2½", "Naked Gun 2 1/2", "The Naked Gun ２½"],
        ["Ænigma", "AEnigma"],
        ["Łódź", "Lodz"],
        ["Straße", "STRASSE"],
        ["İstanbul", "Istanbul"],
        ["\u200eYou Are Not So Smart\u200e", "You Are Not So Smart"],
        ["Ночной дозор", "НОЧНОЙ ДОЗОР"],
        ["Ёлки", "Елки"],
        ["Ὀδύσσεια", "Οδύσσεια"],
        ["学園アリス１", "学園アリス1"],
        ["Title\nover\r\nlines", "Title over lines"],
    ],
)
def test_spellings_of_one_title_have_one_key(spellings):
    assert len({title_key(spelling) for spelling in spellings}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("300", "30"),
        ("1917", "1918"),
        ("2001: A Space Odyssey", "A Space Odyssey"),
        ("Blade Runner", "Blade Runner 2049"),
        ("Чайка", "Чаика"),  # й is no accented и
        ("がん", "かん"),
        ("हिन्दी", "हन्द"),  # vowel signs are marks, and letters too
        ("سمفونی مردگان", "ظل الأفعى"),
        ("채식주의자", "엄마를 부탁해"),
        ("!!!", "..."),
        ("Die Hard", "Hard"),
        ("A", "The"),
        ("The Thing", "The Things"),
    ],
)
def test_other_titles_have_other_keys(one, other):
    assert title_key(one) != title_key(other)


@pytest.mark.parametrize("title", ["!!!", "...", "?", "☆★", "\ud800", "—"])
def test_a_key_that_would_be_empty_stays_raw(title):
    assert title_key(title) == title


def test_articles_alone_are_titles():
    assert [title_key(title) for title in ("A", "The", "An", "The A", "A.I.")] == ["a", "the", "an", "a", "ai"]


def test_spelling_keeps_the_article():
    assert spelling("Host, The") == spelling("the host") == "thehost"
    assert spelling("Host") == "host"


@given(ANY_TEXT)
def test_keys_are_stable(text):
    key = title_key(text)
    assert bool(key) == bool(collapse(text))
    assert title_key(text) == title_key(f"  {text}\n")
    assert title_key(text) == title_key(key) or any(word in key for word in ("the", "a", "an", ","))


@given(st.text(st.characters(categories=["Lo", "Nd"], max_codepoint=0xFFFF), min_size=1))
def test_letters_and_digits_of_other_scripts_are_never_lost(text):
    assert len(title_key(text)) >= len(collapse(text).replace(" ", "")) / 4  # composed Hangul is shorter


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Rocky II", (2,)),
        ("Rocky 2", (2,)),
        ("Rocky III", (3,)),
        ("Dune: Part Two", (2,)),
        ("Se7en", (7,)),
        ("2001: A Space Odyssey", (2001,)),
        ("20000 Leagues Under the Sea", (20_000,)),
        ("Harry Potter and the Deathly Hallows – Part 1", (1,)),
        ("Heat", ()),
    ],
)
def test_numbers_in_titles(title, expected):
    assert numbers(title) == expected


@pytest.mark.parametrize(
    ("value", "year"),
    [
        (None, None),
        ("", None),
        ("  ", None),
        (math.nan, None),
        (1995, 1995),
        ("1995", 1995),
        (" 1995 ", 1995),
        ("1995.0", 1995),
        (1995.0, 1995),
        (np.int64(1995), 1995),
        (np.float32(1995), 1995),
        ("-720", -720),
        (201, 201),
    ],
)
def test_years_are_read_as_files_hold_them(value, year):
    assert read_year(value) == year
    assert type(read_year(value)) in (int, type(None))


@pytest.mark.parametrize("value", ["nineteen", "1995-05-01", 1995.5, True, [1995], "1_995", math.inf, "(1995)"])
def test_what_is_no_year_is_refused_with_its_value(value):
    with pytest.raises(ValueError, match="expected a whole number such as 1995"):
        read_year(value)
