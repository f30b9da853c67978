"""The highest scores of a row, against a sort of the whole row."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rankrl.encoders.top import top_columns


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.integers(1, 14))
def test_they_are_the_first_of_a_stable_sort(scores: list[int], number: int) -> None:
    row = np.array(scores, dtype=np.float32)
    expected = sorted(np.argsort(-row, kind="stable")[:number].tolist())
    assert top_columns(row, number).tolist() == expected


def test_of_equal_scores_the_first_columns() -> None:
    assert top_columns(np.array([1.0, 2.0, 1.0, 2.0, 1.0]), 3).tolist() == [0, 1, 3]
    assert top_columns(np.zeros(4), 2).tolist() == [0, 1]


def test_the_scores_stay_as_they_are() -> None:
    scores = np.array([3.0, 1.0, 2.0])
    top_columns(scores, 1)
    assert scores.tolist() == [3.0, 1.0, 2.0]
