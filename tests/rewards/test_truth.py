"""From references to ids: every form, what is unknown, and that nothing is lost in silence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from catalog import Catalog, Item, ItemReference
from rankrl.rewards import TruthResolver, resolve_truth


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog([Item("Heat", 1995, "h"), Item("Up", 2009, "u"), Item("Dune", 1984, "d1"), Item("Dune", 2021, "d2")])


def test_every_form_of_a_reference(catalog: Catalog) -> None:
    rows = [
        ["Heat (1995)"],
        [["Heat", 1995]],
        [("Heat", "1995")],  # a year as text is read as a year
        [{"id": "h", "title": None, "year": None, "gain": 1.0}],
        [ItemReference(key="h")],
        [{"title": "Heat", "year": 1995, "gain": 0.5}],
        [{"title": "Dune", "year": 2021}, "Up"],
    ]
    assert resolve_truth(catalog, rows) == [{0: 1.0}] * 5 + [{0: 0.5}, {3: 1.0, 1: 1.0}]


def test_two_references_to_one_item_count_the_higher_gain(catalog: Catalog) -> None:
    rows = [[{"id": "h", "gain": 0.3}, {"title": "Heat", "year": 1995, "gain": 0.8}, {"id": "h", "gain": 0.1}]]
    assert resolve_truth(catalog, rows) == [{0: 0.8}]


def test_year_tolerance(catalog: Catalog) -> None:
    rows = [["Up (2009)"], [["Heat", 1996]]]
    assert resolve_truth(catalog, rows)[1] == {}
    assert resolve_truth(catalog, rows, year_tolerance=1)[1] == {0: 1.0}
    assert TruthResolver(catalog).seen(rows) == [{1}, set()]
    assert TruthResolver(catalog, year_tolerance=1).seen(rows) == [{1}, {0}]


def test_references_that_differ_in_their_key_alone_are_different_items(catalog: Catalog) -> None:
    """What was resolved before is remembered by key, title and year."""
    assert resolve_truth(catalog, [[{"id": "d1"}], [{"id": "d2"}, {"id": "u"}]]) == [{2: 1.0}, {3: 1.0, 1: 1.0}]
    assert resolve_truth(catalog, [[["Dune", 1984]], [["Dune", 2021]]]) == [{2: 1.0}, {3: 1.0}]


def test_unknown_items_are_reported_once_with_share_and_examples(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    resolver = TruthResolver(catalog)
    rows = [[["Heat", 1995]], [["Nowhere", 1999], ["Up", 2009]], [["Neverwhere", None]]]
    with caplog.at_level(logging.WARNING):
        assert resolver.truth(rows) == [{0: 1.0}, {1: 1.0}, {}]
        resolver.truth(rows * 4)
    (message,) = caplog.messages
    assert "2 of 4 distinct ground-truth items (50.0%)" in message
    assert "'Nowhere (1999)', 'Neverwhere'" in message
    assert "1 of 3 rows keep no item" in message


def test_at_most_five_examples(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    resolve_truth(catalog, [["Heat (1995)"]] + [[[f"Film {number}", 2000]] for number in range(8)])
    assert caplog.text.count("'Film ") == 5


def test_more_unknown_than_the_limit_is_an_error(catalog: Catalog) -> None:
    rows = [["Heat (1995)"], ["Up (2009)"], [["Nowhere", 1999]]]
    resolve_truth(catalog, rows, unknown_limit=0.34)
    with pytest.raises(ValueError, match=r"1 of 3 .*33.3%.*unknown_limit=0.3 allows.*year_tolerance"):
        resolve_truth(catalog, rows, unknown_limit=0.3)


def test_the_limit_is_about_all_that_was_met_so_far(catalog: Catalog) -> None:
    resolver = TruthResolver(catalog, unknown_limit=0.4)
    resolver.truth([["Heat (1995)"], ["Up (2009)"]])
    resolver.truth([[["Nowhere", 1999]]])  # a batch of its own, but 1 of 3
    with pytest.raises(ValueError, match="2 of 4"):
        resolver.truth([[["Neverwhere", 1999]]])


def test_an_unlucky_batch_is_no_verdict_on_the_catalogue(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    resolver = TruthResolver(catalog)
    unknown = [[["Nowhere", year]] for year in range(1900, 1932)]
    assert resolver.truth(unknown[:31], in_part=True) == [{}] * 31
    assert "31 of 31" in caplog.text
    with pytest.raises(ValueError, match="32 of 32 .*Every reward would be zero"):
        resolver.truth(unknown[31:], in_part=True)


def test_nothing_known_at_all_is_always_an_error(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="2 of 2 .*Every reward would be zero"):
        resolve_truth(catalog, [[["Nowhere", 1999]], [["Neverwhere", 1999]]], unknown_limit=1.0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["Heat (1995)"], []], "ground_truth of row 1 is empty.*Drop such rows"),
        ([None], "row 0 is empty"),
        (["Heat (1995)"], "row 0 is 'Heat .1995.'; expected a list"),
        ([{"title": "Heat"}], "expected a list of item references"),
        ([[3]], "ground_truth of row 0: 3 names no item"),
        ([[{"title": "Heat", "gain": 2.0}]], "row 0: .*gain"),
    ],
)
def test_bad_rows(catalog: Catalog, rows: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_truth(catalog, rows)


def test_labels_that_complete_a_truth_may_be_missing_and_are_reported_by_their_own_name(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    resolver = TruthResolver(catalog, column="augmented", allow_empty=True)
    assert resolver.truth([[], ["Heat (1995)", ["Nowhere", 1999]], ()]) == [{}, {0: 1.0}, {}]
    (message,) = caplog.messages
    assert "1 of 2 distinct augmented items (50.0%)" in message
    assert "2 of 3 rows keep none" in message
    assert "earn nothing" not in message  # they earn by their truth

    with pytest.raises(ValueError, match=r"1 of 1 distinct augmented items .*Not one of these labels could ever count"):
        TruthResolver(catalog, column="augmented", allow_empty=True).truth([[["Nowhere", 1999]]])
    with pytest.raises(ValueError, match=r"wanted of row 0 is empty.*row\['wanted'\]"):
        TruthResolver(catalog, column="wanted").truth([[]])
    with pytest.raises(ValueError, match="augmented of row 1: 3 names no item"):
        resolver.truth([[], [3]])


def test_seen_items_outside_the_catalogue_are_no_error(catalog: Catalog) -> None:
    resolver = TruthResolver(catalog)
    assert resolver.seen([[["Heat", 1995], ["Marvel", None]], [], None]) == [{0}, set(), set()]


@pytest.mark.parametrize("setting", [{"unknown_limit": 1.5}, {"unknown_limit": -0.1}, {"year_tolerance": -1}])
def test_bad_settings(catalog: Catalog, setting: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        TruthResolver(catalog, **setting)


def test_a_title_of_several_items_that_was_seen_excludes_them_all(catalog: Catalog) -> None:
    resolver = TruthResolver(catalog)
    assert resolver.seen([["Dune"], ["Dune (1984)"], [{"id": "d2"}], [("Dune", 1999)]]) == [{2, 3}, {2}, {3}, set()]


def test_a_title_of_several_items_is_told_apart_from_an_unknown_one(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        resolve_truth(catalog, [["Heat", "Dune", "Marvel"]])
    assert "'Dune' (which several have: say the year), 'Marvel'." in caplog.text


@pytest.mark.parametrize("kind", [pd.Series, np.array, iter])
def test_long_rows_of_other_kinds_are_read_to_their_end(kind: Callable[[list[str]], Any]) -> None:
    """numpy and pandas leave the middle of a long row out of its text."""
    films = Catalog([(f"Film {number}", 2000) for number in range(1600)])
    row = [f"Film {number} (2000)" for number in range(1500)]
    other = [*row[:750], "Film 1550 (2000)", *row[751:]]
    first, second = TruthResolver(films).truth([kind(row), kind(other)])
    assert (750 in first, 750 in second, 1550 in first, 1550 in second) == (True, False, False, True)
