"""`relevance` against a loop that does what the definition says, and what it says about bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.rewards import relevance
from rankrl.rewards.relevance import is_seen

ITEM = st.integers(0, 6)  # few items, so that repeats and hits are common
GAIN = st.sampled_from([0.25, 0.5, 1.0])


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[int]], list[dict[int, float]], list[set[int]]]:
    num_rows, num_ranks = draw(st.integers(0, 4)), draw(st.integers(1, 6))
    ranked = [[draw(st.integers(-1, 6)) for _ in range(num_ranks)] for _ in range(num_rows)]
    truth = [draw(st.dictionaries(ITEM, GAIN, max_size=4)) for _ in range(num_rows)]
    seen = [draw(st.sets(st.integers(-1, 6), max_size=3)) for _ in range(num_rows)]
    return ranked, truth, seen


def plain_relevance(ranked: list[int], truth: dict[int, float], seen: set[int]) -> list[float]:
    gains = []
    for rank, item in enumerate(ranked):
        earns = item >= 0 and item not in ranked[:rank] and item not in seen
        gains.append(truth.get(item, 0.0) if earns else 0.0)
    return gains


@given(batches())
def test_agrees_with_a_plain_loop(batch: tuple) -> None:
    ranked, truth, seen = batch
    width = len(ranked[0]) if ranked else 3
    expected = [plain_relevance(*row) for row in zip(ranked, truth, seen, strict=True)]
    given_ranked = np.array(ranked, dtype=np.int64).reshape(len(ranked), width)

    result = relevance(given_ranked, truth, seen=seen)

    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, np.array(expected).reshape(result.shape))
    assert (result.sum(axis=1) <= [sum(wanted.values()) + 1e-12 for wanted in truth]).all()


def test_hand_worked() -> None:
    ranked = [[3, 1, 3, -1, 0], [2, 2, 4, 0, 1]]
    assert relevance(ranked, [{3: 1.0, 0: 0.5}, [4, 2]]).tolist() == [[1, 0, 0, 0, 0.5], [1, 0, 1, 0, 0]]
    assert relevance(ranked, [{3: 1.0, 0: 0.5}, [4, 2]], seen=[[3], [-1]]).tolist() == [
        [0, 0, 0, 0, 0.5],
        [1, 0, 1, 0, 0],
    ]


def test_a_row_of_truth_does_not_leak_into_the_next() -> None:
    assert relevance([[1, 2], [1, 2]], [[1], [2]]).tolist() == [[1, 0], [0, 1]]


def test_truth_may_be_any_iterable_and_counts_an_id_once() -> None:
    expected = [[1.0, 0.0]]
    for row in ([5, 5], (5,), {5}, np.array([5]), iter([5]), range(5, 6)):
        assert relevance([[5, 5]], [row]).tolist() == expected


@pytest.mark.parametrize("seen", [[[3], [1]], [[], [-1]]])
def test_a_rank_that_names_nothing_was_not_seen(seen: list[list[int]]) -> None:
    """Not even where the largest item was, or an item outside the catalogue by the user of the next row."""
    assert not is_seen(np.array([[-1], [-1]]), seen).any()
    assert is_seen(np.array([[-1, 3], [1, -1]]), [[3, -1], [1, -1]]).tolist() == [[False, True], [True, False]]


def test_does_not_change_its_input() -> None:
    ranked = np.array([[1, 1, 2]])
    relevance(ranked, [[1]], seen=[[2]])
    assert ranked.tolist() == [[1, 1, 2]]


@pytest.mark.parametrize(
    ("ranked", "truth", "error", "message"),
    [
        ([1, 2], [[1]], ValueError, r"\(B, K\).*shape \(2,\)"),
        ([[1], [1, 2]], [[1], [1]], ValueError, "same length"),
        ([[0.5]], [[1]], TypeError, "integer item ids"),
        ([["Heat (1995)"]], [[1]], TypeError, "Catalog.ranked"),
        ([[-2]], [[1]], ValueError, "the id -2"),
        ([[1]], [[1], [2]], ValueError, "2 rows, but ranked has 1"),
        ([[1]], {1: 1.0}, TypeError, "one entry per row"),
        ([[1]], ["Heat"], TypeError, "row 0 is 'Heat'"),
        ([[1]], [5], TypeError, "row 0 is 5"),
        ([[1], [1]], [[1], ["Heat"]], TypeError, "row 1 holds 'Heat'.*resolve_truth"),
        ([[1]], [[-1]], ValueError, "the id -1.*resolve_truth"),
        ([[1]], [{1: 0.0}], ValueError, r"gain 0.0; use \(0, 1\]"),
        ([[1]], [{1: 1.5}], ValueError, "item 1 gain 1.5"),
        ([[1]], [{1: float("nan")}], ValueError, "gain nan"),
    ],
)
def test_bad_input_is_refused_with_a_reason(ranked: list, truth: list, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        relevance(ranked, truth)


def test_bad_seen_is_named_as_seen() -> None:
    with pytest.raises(TypeError, match="seen of row 0 holds 'Heat'"):
        relevance([[1]], [[1]], seen=[["Heat"]])
    with pytest.raises(ValueError, match="seen has 2 rows"):
        relevance([[1]], [[1]], seen=[[], []])
