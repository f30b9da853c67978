"""Reflect against plain loops, on arrays and on candidates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.demonstrations import Candidates, reflect_scores, top_items
from tests.demonstrations import references

NAN = np.nan


def candidates(scores, num_items=None):
    """All items of an array as candidates."""
    scores = np.asarray(scores, dtype=np.float64)
    items = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return Candidates(items.copy(), scores, num_items or scores.shape[1])


def test_known_answer_and_nothing_said_is_zero() -> None:
    remap = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    ratings = [[2, NAN, -1], [NAN, 0, NAN]]
    assert reflect_scores(remap, ratings).tolist() == [[2.0, 2.0, 2.5], [1.0, 1.0, 1.0]]
    assert reflect_scores(remap, ratings, weight=2.0).tolist() == [[5.0, 2.0, 1.0], [1.0, 1.0, 1.0]]
    assert remap.tolist() == [[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]


@given(seed=st.integers(0, 2**32), weight=st.floats(-2, 2), rated_number=st.integers(1, 6))
def test_all_forms_equal_plain_loops(seed, weight, rated_number) -> None:
    rng = np.random.default_rng(seed)
    remap = rng.standard_normal((3, 8))
    items = np.stack([rng.permutation(8)[:rated_number] for _ in range(3)])
    ratings = rng.integers(-2, 3, items.shape).astype(float)
    ratings[rng.random(items.shape) < 0.3] = NAN
    padded = rng.random(items.shape) < 0.2
    items[padded], ratings[padded] = -1, NAN
    pairs = [zip(*row, strict=True) for row in zip(items.tolist(), ratings.tolist(), strict=True)]
    said = [{item: rating for item, rating in row if rating == rating} for row in pairs]
    wide = np.full((3, 8), NAN)
    for row, by_item in enumerate(said):
        for item, rating in by_item.items():
            wide[row, item] = rating
    expected = references.reflect(remap, said, weight)
    for got in (
        reflect_scores(remap, wide, weight),
        reflect_scores(remap, ratings, weight, items=items),
        reflect_scores(candidates(remap), wide, weight).scores,
        reflect_scores(candidates(remap), ratings, weight, items=items).scores,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_candidates_of_different_rows_are_told_apart() -> None:
    few = Candidates(np.array([[0, 4], [3, 4]]), np.zeros((2, 2)), num_items=5)
    reflected = reflect_scores(few, [[2.0, NAN], [1.0, -2.0]], 1.0, items=[[4, 0], [4, 3]])
    assert reflected.scores.tolist() == [[0, 2], [-2, 1]]
    assert reflected.items is few.items


def test_ratings_fit_the_list_that_was_rated() -> None:
    remap = np.array([[0.1, 0.9, 0.5, 0.7]])
    shown = top_items(remap, 2)
    assert shown.tolist() == [[1, 3]]
    assert reflect_scores(remap, [[-2.0, 2.0]], items=shown).round(3).tolist() == [[0.1, -0.1, 0.5, 1.7]]


@pytest.mark.parametrize(
    ("ratings", "items", "message"),
    [
        ([[1.0, 2.0]], None, r"ratings have the shape \(1, 2\), scores \(1, 3\).*items=top_items"),
        ([[np.inf, 0, 0]], None, "a rating is infinite"),
        ([[1.0, 2.0]], [[0]], r"one shape, \(D, N_r\)"),
        ([[1.0], [1.0]], [[0], [1]], "a row for each row"),
        ([[1.0, 2.0]], [[0, 0]], "dialogue 0 rates 0 at place 1: .* rated before"),
        ([[1.0, 2.0]], [[0, -1]], "dialogue 0 rates -1 at place 1"),
        ([[1.0, 2.0]], [[0, 3]], "rates item 3, which is none of the 3 items"),
    ],
)
def test_bad_ratings(ratings, items, message) -> None:
    with pytest.raises(ValueError, match=message):
        reflect_scores([[1.0, 2.0, 3.0]], ratings, items=items)


def test_an_item_that_is_no_candidate_cannot_be_rated() -> None:
    few = Candidates(np.array([[0, 2]]), np.zeros((1, 2)), num_items=5)
    with pytest.raises(ValueError, match="rates item 1, which is no candidate there"):
        reflect_scores(few, [[1.0]], items=[[1]])


def test_scores_must_be_finite() -> None:
    with pytest.raises(ValueError, match="dialogue 1 has a score that is NaN"):
        reflect_scores([[1.0], [NAN]], [[0.0], [0.0]])
