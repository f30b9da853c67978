import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import Catalog, Item, ItemReference
from catalog.titles import title_key

FILMS = Catalog(
    [
        Item("Heat", 1986, "h86"),
        Item("Heat", 1995, "h95"),
        Item("Gilda", None, "g"),
        Item("It", None, "it"),
        Item("It", 2017, "it17"),
        Item("Host", 2020, "host"),
        Item("The Host", 2006, "the-host"),
        Item("Ben-Hur", 1959, "bh-1"),
        Item("Ben Hur", 1959, "bh-2"),
        Item("Léon", 1994, "leon", ("Léon: The Professional", "The Professional")),
        Item("The Professional", 1981, "prof"),
        Item("300", 2006, "f300"),
        Item("Blade Runner 2049", 2017, "br"),
        Item("Argentina, 1985", 2022, "arg"),
        Item("Fear Street: Part One - 1994", 2021, "fs", metadata={"alias_ids": ["fs-old"]}),
        Item("12 Angry Men", 1957, "12"),
        Item("!!!", 2004, "chk"),
        Item("Star Wars", 1977, "sw"),
        Item("Star Wars: A New Hope", 1997, "sw97"),
    ]
)


def key(item_id):
    return None if item_id < 0 else FILMS.keys[item_id]


@pytest.mark.parametrize(
    ("title", "year", "tolerance", "expected"),
    [
        ("Heat", 1995, 0, "h95"),
        ("heat", 1986, 0, "h86"),
        ("Heat", None, 0, None),  # two, and nothing decides
        ("Heat", 1990, 0, None),
        ("Heat", 1990, 4, "h86"),  # 4 away against 5
        ("Heat", 1990, 9, "h86"),
        ("Heat", 1996, 1, "h95"),
        ("Heat", 1995, 20, "h95"),  # the same year before the nearest
        ("Gilda", 1946, 0, "g"),  # an item without a year, when no dated one fits
        ("Gilda", None, 0, "g"),
        ("It", None, 0, "it"),  # no year stands for no year
        ("It", 2017, 0, "it17"),
        ("It", 2018, 0, "it"),
        ("It", 2018, 1, "it17"),
        ("The Host", 2006, 0, "the-host"),
        ("Host", 2006, 0, "the-host"),
        ("The Host", 2020, 0, "host"),
        ("Host", None, 0, "host"),  # the spelling decides
        ("host, the", None, 0, "the-host"),
        ("Ben-Hur", 1959, 0, "bh-1"),
        ("Ben Hur", 1959, 0, "bh-2"),
        ("BEN HUR", 1959, 0, "bh-2"),
        ("BenHur", 1959, 0, None),
        ("Leon: the Professional", 1994, 0, "leon"),
        ("The Professional", 1994, 0, "leon"),
        ("The Professional", 1981, 0, "prof"),
        ("The Professional", None, 0, "prof"),  # a title before an alias
        ("300", 2006, 0, "f300"),
        ("Blade Runner", 2049, 0, None),
        ("!!!", None, 0, "chk"),
        ("...", 2004, 0, None),
        ("", None, 0, None),
        ("Unknown", 1999, 50, None),
    ],
)
def test_find(title, year, tolerance, expected):
    assert key(FILMS.find(title, year, year_tolerance=tolerance)) == expected


def test_equally_near_years_are_ambiguous():
    films = Catalog([("Heat", 1994), ("Heat", 1996)])
    assert films.find("Heat", 1995, year_tolerance=1) == -1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Heat (1995)", "h95"),
        ("1. **HEAT** (1995) - loud", "h95"),
        ("Heat", None),
        ("Argentina, 1985", "arg"),
        ("3. argentina, 1985", "arg"),
        ("argentina, 1985 (2022)", "arg"),
        ("Fear Street: Part One – 1994", "fs"),
        ("Blade Runner 2049", "br"),
        ("300", "f300"),
        ("4. 300 (2006)", "f300"),
        ("12 Angry Men (1957)", "12"),
        ("12. Angry Men (1957)", "12"),
        ("12. 12 Angry Men (1957)", "12"),
        ("**Star Wars**: A New Hope (1997)", "sw97"),
        ("**Star Wars**: the first one (1977)", "sw"),
        ("!!! (2004)", "chk"),
        ("Gilda (1946)", "g"),
        ("Matrix, The (1999)", None),
        ("7.", None),
        ("", None),
    ],
)
def test_lines(line, expected):
    assert key(FILMS.match([line], min_score=100)[0]) == expected
    assert key(FILMS.resolve(line) if line else -1) == expected


def test_both_orders_of_the_article_resolve():
    films = Catalog([("The Matrix", 1999), ("Bug's Life, A", 1998)])
    assert films.match(["Matrix, The (1999)", "The Matrix (1999)", "A Bug’s Life (1998)"]).tolist() == [0, 0, 1]


def test_the_raw_line_decides_before_anything_is_parsed():
    films = Catalog([("1. Heat", 1995), ("Heat", 1995), ('"Heat"', 1995), ("Heat - 1995", None)])
    assert films.match(films.lines).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (ItemReference(key="h95"), "h95"),
        ({"id": "fs-old"}, "fs"),
        ({"id": "gone", "title": "Heat", "year": 1986}, "h86"),  # by key first, then by title
        ({"id": "h95", "title": "Heat", "year": 1986}, "h95"),
        ({"id": "gone"}, None),
        (["Heat", "1995"], "h95"),
        (["Heat", None], None),
        (["It", None], "it"),
        ({"title": "Heat (1995)"}, "h95"),
        ("Heat (1995)", "h95"),
        ("it17", "it17"),  # a plain text may be a key
        ("12", None),  # but not one of digits alone
        ({"id": "12"}, "12"),
    ],
)
def test_resolve(reference, expected):
    assert key(FILMS.resolve(reference)) == expected


def test_resolve_takes_tolerance_and_spelling_mistakes():
    assert key(FILMS.resolve(["Heat", 1996], year_tolerance=1)) == "h95"
    assert FILMS.resolve(["Blade Runer 2049", 2017]) == -1
    assert key(FILMS.resolve(["Blade Runer 2049", 2017], min_score=90)) == "br"
    assert key(FILMS.resolve("Blade Runer 2049 (2017)", min_score=90)) == "br"
    assert FILMS.resolve(["Blade Runer 2049", 2018], min_score=90) == -1
    assert key(FILMS.resolve(["Blade Runer 2049", 2018], min_score=90, year_tolerance=1)) == "br"


def test_resolve_refuses_what_names_nothing():
    with pytest.raises(ValueError, match="7 names no item"):
        FILMS.resolve(7)


TITLES = st.sampled_from(["Heat", "The Heat", "heat!", "Up", "up", "A Up", "Pi"])
YEARS = st.none() | st.integers(1990, 1995)


def oracle(items, title, year, tolerance):
    """The rules of `Catalog.find`, the long way."""
    group = [n for n, item in enumerate(items) if title_key(item[0]) == title_key(title)]
    stages = [[n for n in group if items[n][1] == year]]
    if year is None:
        stages.append(group)
    else:
        dated = [n for n in group if items[n][1] is not None]
        for distance in range(tolerance + 1):
            stages.append([n for n in dated if abs(items[n][1] - year) == distance])
        stages.append([n for n in group if items[n][1] is None])
    candidates = next((stage for stage in stages if stage), [])
    if len(candidates) <= 1:
        return candidates[0] if candidates else -1
    for agree in (
        lambda n: items[n][0] == title,
        lambda n: items[n][0].lower() == title.lower(),
        lambda n: items[n][0].lower().strip("!").replace(" ", "") == title.lower().strip("!").replace(" ", ""),
    ):
        agreeing = [n for n in candidates if agree(n)]
        if len(agreeing) == 1:
            return agreeing[0]
    return -1


@given(
    items=st.lists(st.tuples(TITLES, YEARS), min_size=1, max_size=8, unique=True),
    title=TITLES,
    year=YEARS,
    tolerance=st.integers(0, 3),
)
def test_find_agrees_with_the_rules(items, title, year, tolerance):
    assert Catalog(items).find(title, year, year_tolerance=tolerance) == oracle(items, title, year, tolerance)


@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), YEARS),
        min_size=1,
        unique_by=lambda pair: (" ".join(pair[0].split()), pair[1]),
    )
)
def test_every_item_is_found_by_its_line_and_by_its_title_and_year(pairs):
    lines = {f"{' '.join(title.split())} ({year})" for title, year in pairs if year is not None}
    if lines & {" ".join(title.split()) for title, year in pairs if year is None}:
        return
    films = Catalog(pairs)
    assert films.match(films.lines).tolist() == list(range(len(films)))
    assert [films.find(item.title, item.year) for item in films] == list(range(len(films)))
