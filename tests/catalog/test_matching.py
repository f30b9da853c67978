import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from catalog import Catalog, Item
from catalog.matching import MARGIN, required_score
from catalog.titles import numbers, title_key

FILMS = Catalog(
    [
        ("The Shawshank Redemption", 1994),  # 0
        ("Terminator 2: Judgment Day", 1991),  # 1
        ("Rocky II", 1979),  # 2
        ("Rocky III", 1982),  # 3
        ("Halloween", 1978),  # 4
        ("Halloween", 2018),  # 5
        ("Heat", 1995),  # 6
        ("Nightmare Alley", 1947),  # 7
        ("Nightmare Alley", 2021),  # 8
        ("Killers of the Flower Moon", 2023),  # 9
        ("Killers of the Flower Room", 2023),  # 10
        ("The Lord of the Rings: Part Two", 2002),  # 11
        ("Amateur", 2018),  # 12
    ]
)


# --- ranks


def test_rank_k_is_line_k():
    text = "The Shawshank Redemption (1994)\n\n  \nnot a film\n2. heat (1995)\nHeat (1995)\nRocky II (1979)"
    assert FILMS.ranked([text], 4).tolist() == [[0, -1, 6, 6]]
    assert FILMS.ranked([text], 7).tolist() == [[0, -1, 6, 6, 2, -1, -1]]
    assert FILMS.ranked([text, "", "\n"], 2).tolist() == [[0, -1], [-1, -1], [-1, -1]]
    assert FILMS.ranked([text], 2).dtype == np.int64


def test_compact_lists_are_closed_up_before_they_are_cut():
    text = "Here are my picks:\n1. Heat (1995)\nnothing\n2. Rocky II (1979)\n3. Rocky III (1982)"
    assert FILMS.ranked([text], 2, compact=True).tolist() == [[6, 2]]
    assert FILMS.ranked([text, "x"], 4, compact=True).tolist() == [[6, 2, 3, -1], [-1] * 4]


def test_no_texts_give_no_rows():
    assert FILMS.ranked([], 3).shape == (0, 3)
    assert FILMS.match([]).shape == (0,)


def test_wrong_arguments_teach():
    with pytest.raises(TypeError, match=r"got one text, 'Heat'; write \[text\]"):
        FILMS.ranked("Heat", 3)
    with pytest.raises(TypeError, match="text 1 is None"):
        FILMS.ranked(["Heat", None], 3)
    with pytest.raises(ValueError, match="num_ranks is 0"):
        FILMS.ranked(["Heat"], 0)
    with pytest.raises(ValueError, match=r"min_score is 0\.9; expected a fuzz.ratio between 1 and 100"):
        FILMS.match(["Heap"], min_score=0.9)


LINES = st.sampled_from(
    [*FILMS.lines, "1. heat (1995)", "The Shawshenk Redemption (1994)", "unknown", "", " ", "Halloween", "\u00a0"]
)


@given(
    texts=st.lists(st.lists(LINES, max_size=6).map("\n".join), max_size=4), ranks=st.integers(1, 5), fuzzy=st.booleans()
)
def test_ranked_is_match_on_the_lines_one_by_one(texts, ranks, fuzzy):
    min_score = 90.0 if fuzzy else None
    expected = []
    for text in texts:
        lines = [line for line in text.split("\n") if line.encode().strip()]
        ids = [FILMS.match_scores([line], min_score=min_score)[0][0] for line in lines][:ranks]
        expected.append(ids + [-1] * (ranks - len(ids)))
    assert FILMS.ranked(texts, ranks, min_score=min_score).tolist() == expected


# --- fuzzy


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("The Shawshenk Redemption (1994)", 0),
        ("1. The Shawshank Redempton", 0),
        ("The Shawshenk Redemption (2004)", -1),  # another year is another film
        ("Terminater 2: Judgement Day (1991)", 1),
        ("Terminator 3: Judgment Day (1991)", -1),  # numbers have to agree
        ("Rocky IIII (1979)", -1),
        ("Rocky IV (1982)", -1),
        ("The Lord of the Rings: Part One (2002)", -1),
        ("The Lord of the Rungs: Part 2 (2002)", -1),  # "two" against "2": below 90
        ("Nightmere Alley (1947)", 7),  # the year decides, no runner-up
        ("Nightmere Alley (2021)", 8),
        ("Nightmere Alley", -1),  # two films
        ("Killers of the Flower Toot (2023)", -1),  # no margin between two films
        ("Halloween (1999)", -1),  # spelt right, of a year that is not there
        ("Halloweern (1978)", 4),
        ("Amateurs (2018)", 12),  # short, with its year
        ("Amateurs", -1),  # short, without
        ("Heats (1995)", -1),  # shorter still: exact or nothing
        ("Heat (1995)", 6),
    ],
)
def test_spelling_mistakes(line, expected):
    assert FILMS.match([line])[0] == expected
    assert FILMS.ranked([line], 1)[0, 0] == (expected if line == "Heat (1995)" else -1)  # exact only, unless asked


def test_tolerance_goes_with_spelling_mistakes():
    assert FILMS.match(["The Shawshenk Redemption (1995)"], year_tolerance=1).tolist() == [0]
    assert FILMS.match(["Heat (1996)"], year_tolerance=1).tolist() == [6], "and with right ones"
    assert FILMS.ranked(["Heat (1996)"], 1).tolist() == [[-1]]


def test_what_was_matched_by_spelling_can_be_told():
    texts = ["Heat (1995)\nThe Shawshenk Redemption (1994)\nnothing at all", "rocky ii (1979)"]
    ids, scores = FILMS.ranked_scores(texts, 3, min_score=90)
    assert ids.tolist() == [[6, 0, -1], [2, -1, -1]]
    misspelt = pytest.approx(fuzz.ratio("shawshenkredemption", "shawshankredemption"))
    assert scores.tolist() == [[100.0, misspelt, 0.0], [100.0, 0.0, 0.0]]
    ids, scores = FILMS.ranked_scores(["x\nThe Shawshenk Redemption (1994)"], 2, compact=True, min_score=90)
    assert (ids.tolist(), scores.tolist()) == ([[0, -1]], [[misspelt, 0.0]])
    ids, scores = FILMS.match_scores(["Heat (1995)", "The Shawshenk Redemption (1994)", "nothing"])
    assert scores.tolist() == [100.0, misspelt, 0.0]


def test_a_title_that_is_just_near_enough_is_compared():
    """Nine letters of eleven, or eleven of nine: a ratio of 2 * 9 / 20, and the year that it then needs."""
    for written, title in (("abcdefghi", "abcdefghijk"), ("abcdefghijk", "abcdefghi")):
        films = Catalog([(title, 1990), ("x", 1991), ("xyzxyzxyzxyzxyzxyzxyz", 1992)])
        ids, scores = films.match_scores([f"{written} (1990)"], min_score=90)
        assert (ids.tolist(), scores.tolist()) == ([0], [90.0])


def test_a_title_that_is_ahead_by_the_margin_is_meant():
    """One and two of 25 letters are others, ratios of 96 and 92; with two and two nobody is ahead."""
    letters = "abcdefghijklmnopqrstuvwxy"
    one, two, others = letters.replace("k", "z"), letters.replace("c", "z").replace("q", "z"), letters[2:] + "zz"
    assert Catalog([(one, None), (two, None)]).match([letters]).tolist() == [0]
    assert Catalog([(others, None), (two, None)]).match([letters]).tolist() == [-1]
    films = Catalog([(one, 1980), (two, 1990)])
    assert films.match([f"{letters} (1990)"]).tolist() == [-1], "a film of another year is nearer still"


def test_aliases_of_one_item_are_no_runners_up():
    films = Catalog([Item("Léon: The Professional", 1994, aliases=("Leon, the Profesional",))])
    assert films.match(["Leon the Professionel (1994)"]).tolist() == [0]


def test_short_titles_need_more():
    assert required_score(5, True, 80) > 100
    assert required_score(8, False, 80) > 100
    assert required_score(8, True, 80) == 90
    assert required_score(8, True, 95) == 95
    assert required_score(10, False, 80) == 80


def test_a_batch_larger_than_one_call():
    titles = [
        f"{'abcdefghij'[n % 10] * 7} {'klmnopqrst'[n // 10 % 10] * 7} {'uvwxyz'[n // 100] * 7}" for n in range(400)
    ]
    films = Catalog([(title, 1990) for title in titles])
    misspelt = [f"{title[:-1]} (1990)" for title in titles]
    assert films.match(misspelt).tolist() == list(range(400))
    assert films.match(misspelt[::-1]).tolist() == list(range(400))[::-1]


WORDS = st.lists(
    st.sampled_from(["moon", "flower", "killers", "night", "nights", "two", "2", "alley", "of"]), min_size=1, max_size=4
)


def oracle(films, title, year, min_score):
    """Fuzzy matching the long way: one title at a time, no cut-offs."""
    key = title_key(title)
    if key in {title_key(item.title) for item in films}:
        return -1
    scored = []
    for other in {title_key(item.title): item.title for item in films}.values():
        if numbers(other) == numbers(title):
            group = [n for n, item in enumerate(films) if title_key(item.title) == title_key(other)]
            fitting = [n for n in group if films[n].year == year] or ([] if year else group)
            scored.append((fuzz.ratio(key, title_key(other)), fitting[0] if len(fitting) == 1 else -1))
    named = sorted((pair for pair in scored if pair[1] >= 0), reverse=True)
    if not named or named[0][0] < required_score(len(key), year is not None, min_score):
        return -1
    if any(score > named[0][0] for score, item_id in scored if item_id < 0):
        return -1
    return -1 if len(named) > 1 and named[0][0] - named[1][0] < MARGIN else named[0][1]


@given(
    titles=st.lists(
        st.tuples(WORDS.map(" ".join), st.sampled_from([1990, 1991])), min_size=1, max_size=12, unique=True
    ),
    queries=st.lists(
        st.tuples(WORDS.map(" ".join), st.integers(0, 20), st.sampled_from([1990, 1991, None])), min_size=1, max_size=6
    ),
    min_score=st.sampled_from([70.0, 85.0, 90.0]),
)
def test_batched_matching_agrees_with_one_by_one(titles, queries, min_score):
    films = Catalog(titles)
    asked = [(f"{title[:at]}x{title[at + 1 :]}", year) for title, at, year in queries]
    found = [candidate.item_id for candidate in films.fuzzy_index.match(asked, min_score)]
    assert found == [oracle(films, title, year, min_score) for title, year in asked]
