import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from catalog import Line, parse_list
from catalog.parsing import read_line, split_lines

ANY_TEXT = st.text(st.characters(exclude_categories=()))
LIST_TEXT = st.text(st.sampled_from(list("aZ19 .-*_#\"'“”(){}[]\n\n\r\v\x1c\u00a0\u2028–:,`é")), max_size=80)


@pytest.mark.parametrize(
    ("line", "title", "year"),
    [
        ("Heat", "Heat", None),
        ("Heat (1995)", "Heat", 1995),
        ("Heat [1995]", "Heat", 1995),
        ("Heat - 1995", "Heat", 1995),
        ("Heat – 1995", "Heat", 1995),
        ("Heat, 1995", "Heat", 1995),
        ("1. Heat (1995)", "Heat", 1995),
        ("1) Heat (1995)", "Heat", 1995),
        ("(1) Heat (1995)", "Heat", 1995),
        ("[1] Heat (1995)", "Heat", 1995),
        ("#1 Heat (1995)", "Heat", 1995),
        ("#1: Heat (1995)", "Heat", 1995),
        ("1: Heat (1995)", "Heat", 1995),
        ("1 - Heat (1995)", "Heat", 1995),
        ("1.Heat (1995)", "Heat", 1995),
        ("1\\. Heat (1995)", "Heat", 1995),
        ("- Heat (1995)", "Heat", 1995),
        ("* Heat (1995)", "Heat", 1995),
        ("• Heat (1995)", "Heat", 1995),
        ("- 1. Heat (1995)", "Heat", 1995),
        ("### 1. Heat (1995)", "Heat", 1995),
        ('"Heat" (1995)', "Heat", 1995),
        ("“Heat” (1995)", "Heat", 1995),
        ("'Heat' (1995)", "Heat", 1995),
        ("‘Heat’ (1995)", "Heat", 1995),
        ("«Heat» (1995)", "Heat", 1995),
        ("《霸王别姬》（1993）", "霸王别姬", 1993),
        ('"Heat (1995)"', "Heat", 1995),
        ("“Heat,” 1995", "Heat", 1995),
        ('"Heat" 1995', "Heat", 1995),
        ("**Heat** (1995)", "Heat", 1995),
        ("**Heat (1995)**", "Heat", 1995),
        ("*Heat* (1995)", "Heat", 1995),
        ("__Heat__ (1995)", "Heat", 1995),
        ("***Heat*** (1995)", "Heat", 1995),
        ("`Heat` (1995)", "Heat", 1995),
        ('1. **"Heat"** (1995)', "Heat", 1995),
        ("**1. Heat** (1995)", "Heat", 1995),
        ("**Heat (1995)", "Heat", 1995),
        ("Heat (1995) - a classic", "Heat", 1995),
        ("Heat (1995): because of (1986)", "Heat", 1995),
        ("Heat - 1995 - a classic", "Heat", 1995),
        ('"Heat" - a classic', "Heat", None),
        ("**Heat**: a classic", "Heat", None),
        ("Heat (1995 film)", "Heat", 1995),
        ("The Wire (2002–2008)", "The Wire", 2002),
        ("Heat (dir. Michael Mann, 1995)", "Heat", 1995),
        ("Star Wars: Episode I – The Phantom Menace (1999)", "Star Wars: Episode I – The Phantom Menace", 1999),
        ("5 Card Stud (Action/Adventure Film)", "5 Card Stud (Action/Adventure Film)", None),
    ],
)
def test_decorations_come_off(line, title, year):
    assert parse_list(line) == [Line(title, year, 0, len(line))]


@pytest.mark.parametrize(
    ("line", "title", "year"),
    [
        ("12 Angry Men (1957)", "12 Angry Men", 1957),
        ("10 Things I Hate About You", "10 Things I Hate About You", None),
        ("300", "300", None),
        ("300 (2006)", "300", 2006),
        ("300: Rise of an Empire (2014)", "300: Rise of an Empire", 2014),
        ("1917", "1917", None),
        ("1917 (2019)", "1917", 2019),
        ("1984 - 1956", "1984", 1956),
        ("2001: A Space Odyssey", "2001: A Space Odyssey", None),
        ("1. 2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("7. 2012", "2012", None),
        ("7. 300", "300", None),
        ("21 - 2008", "21", 2008),
        ("Blade Runner 2049", "Blade Runner 2049", None),
        ("Blade Runner 2049 (2017)", "Blade Runner 2049", 2017),
        ("Death Race 2000", "Death Race 2000", None),
        ("50/50", "50/50", None),
        ("9 to 5", "9 to 5", None),
        ("3.14", "3.14", None),
        ("(2007)", "(2007)", None),
        ("'71 (2014)", "'71", 2014),
        ("'Round Midnight", "'Round Midnight", None),
        ("'Salem's Lot (1979)", "'Salem's Lot", 1979),
        ('"Crocodile" Dundee (1986)', '"Crocodile" Dundee', 1986),
        ("#Alive (2020)", "#Alive", 2020),
        ("*batteries not included (1987)", "*batteries not included", 1987),
        ("M*A*S*H (1970)", "M*A*S*H", 1970),
        ("61*", "61*", None),
        ("-30- (1959)", "-30", 1959),
        ("!!!", "!!!", None),
        ("Mission: Impossible - Fallout", "Mission: Impossible - Fallout", None),
    ],
)
def test_what_belongs_to_the_title_stays(line, title, year):
    assert parse_list(line)[0][:2] == (title, year)


def test_an_empty_entry_of_a_list_is_a_line_without_title():
    assert [line[:2] for line in parse_list("8. Heat\n9.\n10) \n11. Up")] == [
        ("Heat", None),
        ("", None),
        ("", None),
        ("Up", None),
    ]


def test_spans_are_offsets_of_the_stripped_line():
    text = "\n  1. Heat (1995)\t\r\n\n\u00a0\n“Up”"
    lines = parse_list(text)
    assert [text[line.start : line.end] for line in lines] == ["1. Heat (1995)", "\u00a0", "“Up”"]
    assert [line.title for line in lines] == ["Heat", "", "Up"]


def test_only_newlines_end_lines_and_only_ascii_white_space_is_blank():
    assert len(parse_list("a\rb\vc\fd\u2028e\x85f\x1cg")) == 1
    assert parse_list(" \t\r\v\f\n\n") == []
    assert len(parse_list("\x1c\n\u2003\n\u200b")) == 3  # str.strip() would call the first two blank


@pytest.mark.parametrize(
    ("line", "candidates"),
    [
        ("Argentina, 1985", [("Argentina, 1985", None), ("Argentina", 1985)]),
        ("**Star Wars**: A New Hope (1977)", [("Star Wars: A New Hope", 1977), ("Star Wars", 1977)]),
        ("12. Angry Men (1957)", [("Angry Men", 1957), ("12. Angry Men", 1957)]),
    ],
)
def test_a_line_that_only_a_catalogue_can_read_keeps_its_readings(line, candidates):
    assert list(read_line(line).candidates) == candidates


@given(ANY_TEXT | LIST_TEXT)
@example("**\n*\n\"\n''\n(1999)\n(\n1.\n1. 2. 3.\n- - - -\n``")
def test_the_rank_rule_whatever_the_text(text):
    lines = parse_list(text)
    pieces = [piece for piece in text.encode("utf-8", "surrogatepass").split(b"\n") if piece.strip()]
    assert [text[line.start : line.end].encode("utf-8", "surrogatepass") for line in lines] == [
        piece.strip() for piece in pieces
    ]
    assert split_lines(text) == [text[line.start : line.end] for line in lines]


@given(
    title=st.from_regex(r"[A-Z][a-z]{1,8}( [A-Za-z]{1,8}){0,3}", fullmatch=True),
    year=st.integers(1900, 2030),
    number=st.sampled_from(["", "1. ", "12) ", "(3) ", "#4 ", "- ", "• ", "- 5. "]),
    quotes=st.sampled_from(["", '""', "“”", "**", "__", "`"]),
    place=st.sampled_from([" ({})", " [{}]", " - {}", ", {}", " – {}"]),
    remark=st.sampled_from(["", " - a classic", ": because (of 1950)"]),
)
def test_any_combination_of_decorations(title, year, number, quotes, place, remark):
    opening, closing = (
        ("**", "**") if quotes == "**" else (quotes[: (len(quotes) + 1) // 2], quotes[len(quotes) // 2 :])
    )
    line = number + opening + title + closing + place.format(year) + remark
    assert parse_list(line)[0][:2] == (title, year)


@pytest.mark.parametrize("piece", ["- ", "(", '"', "*a", "1. ", " ", "'a' ", "**", "(1, ", "a, "])
def test_long_hostile_lines_do_not_hang(piece):
    assert len(parse_list(piece * 50_000 + "x")) == 1  # quadratic work would take minutes
