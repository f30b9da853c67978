"""Popularity by hand, against a loop, and for the lists whose answer is known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.metrics import Popularity, popularity_at_k, recall_at_k, tail_recall_at_k, tail_share_at_k

TAIL = [False, True, True, False]
PERCENTILE = [0.9, 0.3, 0.1, 0.5]
LINES = st.lists(st.integers(-1, 3), min_size=5, max_size=5)
ROWS = st.lists(st.tuples(LINES, st.sets(st.integers(0, 3), min_size=1)), min_size=1, max_size=4)


def test_the_tail_is_what_is_left_after_four_fifths_of_the_demand() -> None:
    """Counts 6, 2, 1, 1, 0: the first two make up 8 of 10."""
    truth = [{0: 1.0}] * 6 + [{1: 1.0}, {1: 1.0, 2: 1.0}, {3: 0.5}]
    popularity = Popularity.of(truth, 5)
    assert popularity.tail.tolist() == [False, False, True, True, True]
    np.testing.assert_allclose(popularity.percentile, [0.9, 0.7, 0.4, 0.4, 0.1])


@pytest.mark.parametrize("total", range(1, 60))
def test_the_head_has_the_fewest_items_that_make_up_its_share(total: int) -> None:
    """Every item is wanted once, so the head is four fifths of them, rounded up."""
    popularity = Popularity.of([{item: 1.0} for item in range(total)], total)
    assert (~popularity.tail).sum() == -(-4 * total // 5)
    np.testing.assert_allclose(popularity.percentile, 0.5)


def test_of_items_that_are_wanted_alike_the_first_of_the_catalogue_are_the_head() -> None:
    """Twenty of sixty items are wanted twice, the others once: 64 of 80 are the twenty and 24 of the forty."""
    popularity = Popularity.of([{item: 1.0} for item in [*range(60), *range(0, 60, 3)]], 60)
    once = [item for item in range(60) if item % 3]
    assert np.flatnonzero(popularity.tail).tolist() == once[24:]


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ([{}, {}], "what 2 rows want: expected at least one item.*got none"),
        ([{3: 1.0}], "0..N-1 with N = 3; got item 3"),
    ],
)
def test_popularity_is_counted_in_something(truth: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Popularity.of(truth, 3)


def test_by_hand() -> None:
    ranked = [[0, 1, 2], [2, -1, 2], [-1, -1, -1]]
    np.testing.assert_allclose(tail_share_at_k(ranked, TAIL), [2 / 3, 1, np.nan])
    np.testing.assert_allclose(tail_share_at_k(ranked, TAIL, 2), [1 / 2, 1, np.nan])
    np.testing.assert_allclose(tail_share_at_k(ranked, TAIL, 9), [2 / 3, 1, np.nan])
    np.testing.assert_allclose(popularity_at_k(ranked, PERCENTILE), [1.3 / 3, 0.1, np.nan])
    np.testing.assert_allclose(popularity_at_k(ranked, PERCENTILE, 1), [0.9, 0.1, np.nan])


def test_recall_over_wanted_items_of_the_tail_by_hand() -> None:
    ranked = [[0, 1, 2], [0, 3, -1], [3, 2, 2], [0, 3, -1]]
    truth = [{0: 1.0, 1: 0.1, 2: 1.0}, {0: 1.0, 3: 1.0}, [1, 2, 3], [1]]
    np.testing.assert_allclose(tail_recall_at_k(ranked, truth, TAIL, 2), [1 / 2, np.nan, 1 / 2, 0])
    np.testing.assert_allclose(tail_recall_at_k(ranked, truth, TAIL), [1, np.nan, 1 / 2, 0])


@given(ROWS, st.integers(1, 7))
def test_agrees_with_a_plain_loop(rows: list[tuple[list[int], set[int]]], k: int) -> None:
    ranked, truth = [row for row, _ in rows], [wanted for _, wanted in rows]
    listed = [{item for item in row[:k] if item >= 0} for row in ranked]
    share = [np.mean([TAIL[item] for item in items]) if items else np.nan for items in listed]
    percentile = [np.mean([PERCENTILE[item] for item in items]) if items else np.nan for items in listed]
    wanted = [{item for item in row if TAIL[item]} for row in truth]
    recall = [len(items & row) / len(row) if row else np.nan for items, row in zip(listed, wanted, strict=True)]
    np.testing.assert_allclose(tail_share_at_k(ranked, TAIL, k), share)
    np.testing.assert_allclose(popularity_at_k(ranked, PERCENTILE, k), percentile)
    np.testing.assert_allclose(tail_recall_at_k(ranked, truth, TAIL, k), recall)


@given(st.lists(st.sets(st.integers(0, 3), min_size=1), min_size=1, max_size=4))
def test_known_answers(truth: list[set[int]]) -> None:
    ideal = np.array([[*row, *[-1] * (4 - len(row))] for row in truth])
    recall = tail_recall_at_k(ideal, truth, TAIL)
    assert set(recall[~np.isnan(recall)]) <= {1.0}  # everything that is wanted
    assert set(tail_share_at_k([[1, 2]] * 3, TAIL)) == {1.0}  # the tail alone
    assert set(tail_share_at_k([[0, 3]] * 3, TAIL)) == {0.0}  # the head alone
    everything = popularity_at_k([range(4)], Popularity.of(truth, 4).percentile)
    np.testing.assert_allclose(everything, 0.5)  # the whole catalogue is as popular as it is on average
    everywhere = tail_recall_at_k(ideal[:, :1], truth, np.ones(4), 1)
    np.testing.assert_allclose(everywhere, recall_at_k(ideal[:, :1], truth, 1))  # of a tail of all items


@pytest.mark.parametrize("k", [0, -1])
def test_k_is_positive(k: int) -> None:
    for metric in (tail_share_at_k, popularity_at_k):
        with pytest.raises(ValueError, match=f"k is {k}"):
            metric([[1]], TAIL, k)
    with pytest.raises(ValueError, match=f"k is {k}"):
        tail_recall_at_k([[1]], [[1]], TAIL, k)


def test_popularity_of_another_catalogue_is_noticed() -> None:
    with pytest.raises(ValueError, match="ranked holds item 4, but popularity is known of 4 items"):
        tail_share_at_k([[4]], TAIL)
    with pytest.raises(ValueError, match="ranked holds item 4"):
        popularity_at_k([[4]], PERCENTILE)
    with pytest.raises(ValueError, match="truth holds item 4"):
        tail_recall_at_k([[1]], [[4]], TAIL)
