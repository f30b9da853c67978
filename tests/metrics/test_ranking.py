"""Metrics against ir-measures (the reference of the field) on random lists, and by hand where it has no counterpart."""

from __future__ import annotations

from collections.abc import Callable

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, R, Success, nDCG

from rankrl.metrics import coverage_at_k, hit_rate_at_k, mrr, ndcg_at_k, recall_at_k
from rankrl.metrics.ranking import GainForm

NUM_ITEMS = 12


@st.composite
def judged_lists(draw: st.DrawFn) -> tuple[np.ndarray, list[dict[int, float]]]:
    """Lists without repeats, some lines unknown, and graded truth in tenths (trec_eval takes whole gains only)."""
    num_rows, num_ranks = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    lists = [draw(st.permutations(range(NUM_ITEMS)))[:num_ranks] for _ in range(num_rows)]
    ranked = np.array([[item if draw(st.booleans()) else -1 for item in row] for row in lists])
    gain = st.integers(1, 10).map(lambda tenths: tenths / 10)
    truth = [
        draw(st.dictionaries(st.integers(0, NUM_ITEMS - 1), gain, min_size=1, max_size=6)) for _ in range(num_rows)
    ]
    return ranked, truth


def reference(measure: ir_measures.Measure, ranked: np.ndarray, truth: list[dict[int, float]]) -> np.ndarray:
    """Score by ir-measures; an unknown line is a document of its own that nobody wants."""
    judged = {
        str(row): {str(item): round(10 * gain) for item, gain in wanted.items()} for row, wanted in enumerate(truth)
    }
    run = {
        str(row): {str(item) if item >= 0 else f"unknown {rank}": -float(rank) for rank, item in enumerate(items)}
        for row, items in enumerate(ranked)
    }
    scores = np.zeros(len(truth))
    for result in ir_measures.iter_calc([measure], judged, run):
        scores[int(result.query_id)] = result.value
    return scores


@given(judged_lists(), st.integers(1, 10))
def test_agrees_with_ir_measures(lists: tuple[np.ndarray, list[dict[int, float]]], k: int) -> None:
    ranked, truth = lists
    np.testing.assert_allclose(recall_at_k(ranked, truth, k), reference(R @ k, ranked, truth), atol=1e-9)
    np.testing.assert_allclose(ndcg_at_k(ranked, truth, k), reference(nDCG @ k, ranked, truth), atol=1e-9)
    np.testing.assert_allclose(hit_rate_at_k(ranked, truth, k), reference(Success @ k, ranked, truth), atol=1e-9)
    np.testing.assert_allclose(mrr(ranked, truth), reference(RR, ranked, truth), atol=1e-9)
    np.testing.assert_allclose(mrr(ranked, truth, k), reference(RR @ k, ranked, truth), atol=1e-9)


@pytest.mark.parametrize("gains", ["linear", "exponential"])
@given(lists=judged_lists(), k=st.integers(1, 10))
def test_only_the_ideal_list_scores_one(
    gains: GainForm, lists: tuple[np.ndarray, list[dict[int, float]]], k: int
) -> None:
    _, truth = lists
    ideal = np.full((len(truth), k), -1)
    for row, wanted in enumerate(truth):
        best = sorted(wanted, key=lambda item: -wanted[item])[:k]
        ideal[row, : len(best)] = best
    np.testing.assert_allclose(ndcg_at_k(ideal, truth, k, gains=gains), 1.0)


def test_the_form_of_gains_by_hand() -> None:
    """Item 5 (gain 0.5) before item 1 (gain 1): linear 0.5 and 1, exponential sqrt(2) - 1 and 1."""
    ranked, truth, second = [[5, 1]], [{1: 1.0, 5: 0.5}], 1 / np.log2(3)
    np.testing.assert_allclose(ndcg_at_k(ranked, truth, 2), [(0.5 + second) / (1 + 0.5 * second)])
    small = np.sqrt(2) - 1
    exponential = ndcg_at_k(ranked, truth, 2, gains="exponential")
    np.testing.assert_allclose(exponential, [(small + second) / (1 + small * second)])
    np.testing.assert_allclose(ndcg_at_k(ranked, truth, 1, gains="exponential"), [small])  # the ideal has item 1 there
    with pytest.raises(ValueError, match="gains is 'log'; expected one of linear, exponential"):
        ndcg_at_k(ranked, truth, 2, gains="log")  # type: ignore[arg-type]


@given(judged_lists(), st.integers(1, 10))
def test_without_graded_gains_both_forms_agree(lists: tuple[np.ndarray, list[dict[int, float]]], k: int) -> None:
    ranked, truth = lists
    wanted = [list(row) for row in truth]
    linear, exponential = (ndcg_at_k(ranked, wanted, k, gains=form) for form in ("linear", "exponential"))
    np.testing.assert_allclose(linear, exponential)


def test_any_gain_above_zero_counts_in_full_for_recall() -> None:
    assert recall_at_k([[5, 0]], [{1: 1.0, 5: 0.01}], 2) == [0.5]
    assert hit_rate_at_k([[5, 0]], [{1: 1.0, 5: 0.01}], 2) == [1.0]


def test_a_short_list_gets_no_easier_ideal() -> None:
    """The official code takes the ideal from the model's own list: there a single hit alone would score 1."""
    truth = [[1, 2, 3]]
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    np.testing.assert_allclose(ndcg_at_k([[1]], truth, 10), [1 / ideal])
    np.testing.assert_allclose(ndcg_at_k([[1, -1, -1]], truth, 10), [1 / ideal])


def test_a_repeat_earns_nothing_twice() -> None:
    assert recall_at_k([[1, 1]], [[1, 2]], 2) == [0.5]
    assert ndcg_at_k([[1, 1, 1]], [[1]], 3) == [1.0]


def test_an_empty_truth_is_an_error_and_says_which_row() -> None:
    for metric in (recall_at_k, ndcg_at_k, hit_rate_at_k):
        with pytest.raises(ValueError, match="row 1 wants nothing.*1 of 2"):
            metric([[1], [2]], [[1], []], 1)
    with pytest.raises(ValueError, match="row 0 wants nothing"):
        mrr([[1]], [[]])


@pytest.mark.parametrize("k", [0, -1])
def test_k_is_positive(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}"):
        recall_at_k([[1]], [[1]], k)
    with pytest.raises(ValueError, match=f"k is {k}"):
        coverage_at_k([[1]], 2, k)


@pytest.mark.parametrize("metric", [recall_at_k, ndcg_at_k, mrr, hit_rate_at_k])
def test_a_truth_that_can_be_read_once_only_is_read_once(metric: Callable[..., np.ndarray]) -> None:
    assert metric([[5, 7]], [iter([5])], 2).tolist() == metric([[5, 7]], [[5]], 2).tolist() == [1.0]
