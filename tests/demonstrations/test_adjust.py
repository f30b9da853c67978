"""Adjust against plain loops, other optimisers and answers worked out by hand; its forms against each other."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad, minimize

from catalog import Catalog, CatalogError
from rankrl.demonstrations import Adjustment, Candidates, top_items
from rankrl.demonstrations.likelihood import TruthLikelihood
from rankrl.demonstrations.objective import AdjustObjective
from tests.demonstrations import references


def problem(seed, dialogues=12, items=6):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((dialogues, items)) + np.linspace(2, 0, items)
    truth = [rng.permutation(items)[: rng.integers(0, 3)].tolist() for _ in range(dialogues)]
    truth[0] = [items - 1]
    return scores, truth


def as_gains(truth):
    return [wanted if isinstance(wanted, dict) else dict.fromkeys(wanted, 1.0) for wanted in truth]


def few_of(scores, rng, number):
    """Some items of each row as candidates."""
    items = np.sort(np.stack([rng.permutation(scores.shape[1])[:number] for _ in scores]))
    return Candidates(items, np.take_along_axis(scores, items, axis=1), scores.shape[1])


def all_of(scores):
    return few_of(scores, np.random.default_rng(0), scores.shape[1])


@given(seed=st.integers(0, 2**32), gains=st.booleans())
def test_the_loss_equals_plain_loops(seed, gains) -> None:
    scores, truth = problem(seed)
    rng = np.random.default_rng(seed)
    if gains:
        truth = [{item: float(rng.uniform(0.1, 1)) for item in wanted} for wanted in truth]
    scale, bias = rng.standard_normal((2, 6))
    loss, *_ = TruthLikelihood(scores, truth)(scale, bias)
    assert loss == pytest.approx(references.adjust_loss(scale, bias, scores, as_gains(truth), 0.0), rel=1e-9)
    few = few_of(scores, rng, 5)
    few_truth = [[*wanted, int(few.items[row, 0])] for row, wanted in enumerate(truth)]
    loss, *_ = TruthLikelihood(few, few_truth)(scale, bias)
    expected = references.adjust_loss(scale, bias, few.scores, as_gains(few_truth), 0.0, few.items)
    assert loss == pytest.approx(expected, rel=1e-9)


@given(seed=st.integers(0, 2**32), sparse=st.booleans())
def test_the_gradient_is_that_of_the_loss(seed, sparse) -> None:
    scores, truth = problem(seed)
    rng = np.random.default_rng(seed)
    given_scores = few_of(scores, rng, 4) if sparse else scores
    if sparse:
        truth[0] = [int(given_scores.items[0, 0])]
    objective = AdjustObjective(TruthLikelihood(given_scores, truth), 0.01)
    point = rng.standard_normal(12)
    error = check_grad(lambda x: objective(x)[0], lambda x: objective(x)[1], point)
    assert error < 1e-4 * max(1.0, float(np.linalg.norm(objective(point)[1])))


@given(seed=st.integers(0, 2**32))
def test_variables_encode_scale_and_bias(seed) -> None:
    scores, truth = problem(seed)
    objective = AdjustObjective(TruthLikelihood(scores, truth), 0.01)
    scale, bias = np.random.default_rng(seed).standard_normal((2, 6))
    np.testing.assert_allclose(objective.decode(objective.encode(scale, bias)), [scale, bias], atol=1e-9)
    loss, _ = objective(objective.encode(scale, bias))
    assert loss == pytest.approx(references.adjust_loss(scale, bias, scores, as_gains(truth), 0.01), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_another_optimiser(seed) -> None:
    scores, truth = problem(seed)

    def loss(x):
        return references.adjust_loss(x[:6], x[6:], scores, as_gains(truth), 0.1)

    other = minimize(loss, np.r_[np.ones(6), np.zeros(6)], method="BFGS", options={"gtol": 1e-6})
    fitted = Adjustment.fit(scores, truth, regularization=0.1, tolerance=1e-7)
    np.testing.assert_allclose(np.r_[fitted.scale, fitted.bias], other.x, atol=1e-3)
    assert loss(np.r_[fitted.scale, fitted.bias]) <= other.fun + 1e-7
    assert fitted.report.loss_end == pytest.approx(other.fun, rel=1e-6)
    assert fitted.report.gradient_end <= 1e-7 * fitted.report.gradient_start


def test_no_point_nearby_or_far_is_better() -> None:
    scores, truth = problem(7)
    fitted = Adjustment.fit(scores, truth, tolerance=1e-8)
    rng = np.random.default_rng(0)
    for size in (1e-3, 0.1, 1.0, 10.0):
        scale, bias = fitted.scale + size * rng.standard_normal(6), fitted.bias + size * rng.standard_normal(6)
        assert references.adjust_loss(scale, bias, scores, as_gains(truth), 0.01) > fitted.report.loss_end


def test_known_answer_of_two_items() -> None:
    """Without scores only biases count: sigmoid(2 b) = 3/4 of the wishes, but for the pull towards 0."""
    fitted = Adjustment.fit(np.zeros((4, 2)), [[0], [0], [0], [1]], regularization=1e-6, tolerance=1e-9)
    np.testing.assert_allclose(fitted.bias, [np.log(3) / 2, -np.log(3) / 2], atol=1e-4)
    np.testing.assert_allclose(fitted.scale, 1.0)
    assert (fitted.report.num_wanted, fitted.report.num_missing) == (4, 0)
    assert fitted.report.loss_start == pytest.approx(4 * np.log(2))


def test_a_strong_pull_changes_nothing() -> None:
    scores, truth = problem(2)
    fitted = Adjustment.fit(scores, truth, regularization=1e6)
    np.testing.assert_allclose([fitted.scale, fitted.bias], [np.ones(6), np.zeros(6)], atol=1e-4)


def test_a_start_that_is_the_optimum_stays() -> None:
    fitted = Adjustment.fit(np.zeros((3, 3)), [[0], [1], [2]])
    np.testing.assert_allclose([fitted.scale, fitted.bias], [np.ones(3), np.zeros(3)], atol=1e-12)
    alone = Adjustment.fit(np.ones((2, 1)), [[0], [0]])
    assert (alone.scale.tolist(), alone.bias.tolist()) == ([1.0], [0.0])


def test_what_users_want_rises() -> None:
    scores = np.tile([3.0, 2.0, 1.0, 0.0], (20, 1))
    fitted = Adjustment.fit(scores, [[3]] * 20)
    assert top_items(fitted.apply(scores), 1).tolist() == [[3]] * 20
    for form in (scores, all_of(scores)):  # the higher an unwanted item stood, the further down it is pushed
        rose, fell = fitted.moved(form, number=2)
        assert (rose.items.tolist(), rose.rank_before.tolist(), rose.rank_after.tolist()) == ([3, 2], [4, 3], [1, 2])
        assert (fell.items.tolist(), fell.rank_before.tolist(), fell.rank_after.tolist()) == ([0, 1], [1, 2], [4, 3])


def test_only_what_moved_is_said_to_have_moved() -> None:
    few = Candidates(np.array([[0, 1]]), np.array([[1.0, 0.0]]), num_items=4)
    rose, fell = Adjustment(np.ones(4), np.array([0.0, 0.5, 9.0, 0.0])).moved(few)
    assert rose.items.tolist() == fell.items.tolist() == []


class Blocks:
    """Blocks that are made anew each time they are asked for."""

    def __init__(self, scores, sizes):
        self.scores, self.sizes = scores, sizes

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from np.split(self.scores, np.cumsum(self.sizes)[:-1])


@pytest.mark.parametrize("form", ["memmap", "blocks", "truth by block", "many small blocks", "candidates", "mixed"])
def test_every_form_is_the_array(form, tmp_path, monkeypatch) -> None:
    scores, truth = problem(3)
    whole = Adjustment.fit(scores, truth, tolerance=1e-9)
    given_scores, given_truth = scores, truth
    if form == "memmap":
        np.save(tmp_path / "scores.npy", scores)
        given_scores = np.load(tmp_path / "scores.npy", mmap_mode="r")
    elif form == "many small blocks":
        monkeypatch.setattr("rankrl.demonstrations.likelihood.BLOCK_SCORES", 13)
    elif form == "candidates":
        given_scores = all_of(scores)
    elif form == "mixed":
        given_scores = [scores[:5], all_of(scores[5:])]
    else:
        given_scores = Blocks(scores, [5, 0, 7])
        given_truth = [truth[:5], [], truth[5:]] if form == "truth by block" else truth
    fitted = Adjustment.fit(given_scores, given_truth, tolerance=1e-9)
    np.testing.assert_allclose([fitted.scale, fitted.bias], [whole.scale, whole.bias], atol=1e-6)


def test_small_blocks_of_candidates_are_the_whole(monkeypatch) -> None:
    scores, truth = problem(4, dialogues=30, items=9)
    few = few_of(scores, np.random.default_rng(1), 7)
    whole = Adjustment.fit(few, truth, tolerance=1e-8)
    monkeypatch.setattr("rankrl.demonstrations.likelihood.BLOCK_SCORES", 20)
    parts = Adjustment.fit(few, truth, tolerance=1e-8)
    np.testing.assert_allclose([parts.scale, parts.bias], [whole.scale, whole.bias], atol=1e-5)
    assert parts.report.num_missing == whole.report.num_missing > 0


def test_wanted_items_that_are_no_candidates_are_counted(caplog) -> None:
    few = Candidates(np.array([[0, 1], [1, 2]]), np.zeros((2, 2)), num_items=4)
    with caplog.at_level(logging.WARNING):
        fitted = Adjustment.fit(few, [[0, 3], [0]])
    assert (fitted.report.num_wanted, fitted.report.num_missing) == (1, 2)
    assert "2 of 3 wanted items are no candidates" in caplog.text
    assert fitted.bias[3] == 0
    assert fitted.scale[3] == 1
    with pytest.raises(ValueError, match="none of the 1 wanted items is a candidate"):
        Adjustment.fit(few, [[3], []])


@given(seed=st.integers(0, 2**32))
def test_apply(seed) -> None:
    scores, _ = problem(seed)
    rng = np.random.default_rng(seed)
    adjustment = Adjustment(*rng.standard_normal((2, 6)))
    final = adjustment.apply(scores)
    expected = [[adjustment.scale[j] * row[j] + adjustment.bias[j] for j in range(6)] for row in scores.tolist()]
    np.testing.assert_allclose(final, expected, rtol=1e-12)
    few = few_of(scores, rng, 3)
    np.testing.assert_allclose(adjustment.apply(few).scores, np.take_along_axis(final, few.items, axis=1))


def test_float32_scores_are_summed_in_float64() -> None:
    scores, truth = problem(5)
    small = scores.astype(np.float32)
    fitted, exact = (Adjustment.fit(given_scores, truth) for given_scores in (small, small.astype(np.float64)))
    np.testing.assert_array_equal(fitted.scale, exact.scale)
    assert fitted.apply(small).dtype == np.float64


def test_saved_by_key_and_neutral_for_new_items(tmp_path, caplog) -> None:
    films = Catalog([("A", 1990), ("B", 1991), ("C", 1992)])
    Adjustment(np.array([1.5, 2.0, 2.5]), np.array([0.1, 0.2, 0.3])).save(tmp_path / "adjustment.npz", films)
    loaded = Adjustment.load(tmp_path / "adjustment.npz", Catalog([("C", 1992), ("New", 2000), ("A", 1990)]))
    assert loaded.scale.tolist() == [2.5, 1.0, 1.5]
    assert loaded.bias.tolist() == [0.3, 0.0, 0.1]
    assert "1 new items" in caplog.text
    with pytest.raises(CatalogError, match="one row per item"):
        loaded.save(tmp_path / "other.npz", Catalog([("A", 1990)]))


BAD = {
    "truth outside the catalogue": (dict(truth=[[0], [3]]), "dialogue 1 wants item 3, but ids are 0..2"),
    "truth of -1": (dict(truth=[[0], [-1]]), "truth of row 1 holds the id -1"),
    "truth of one row": (dict(truth=[[0]]), "scores hold 2 dialogues, truth 1"),
    "truth of three rows": (dict(truth=[[0], [1], [2]]), "scores hold 2 dialogues, truth 3"),
    "no truth": (dict(truth=[[], []]), "no dialogue wants anything"),
    "gain above 1": (dict(truth=[{0: 2.0}, [1]]), "gives item 0 gain 2.0"),
    "NaN": (dict(scores=np.array([[0.0, 1, 2], [0, np.nan, 0]])), "dialogue 1 has a score that is NaN"),
    "one row": (dict(scores=np.zeros(3)), r"ndarray of shape \(3,\)"),
    "rows as blocks": (dict(scores=[np.zeros(3), np.zeros(3)]), r"ndarray of shape \(3,\)"),
    "nothing": (dict(scores=[]), "scores hold no block"),
    "other items": (dict(scores=[np.zeros((1, 3)), np.zeros((1, 4))]), "a block of 4 items after one of 3"),
    "no pull": (dict(regularization=0.0), "regularization is 0.0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case) -> None:
    changed, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        Adjustment.fit(**(dict(scores=np.eye(2, 3), truth=[[0], [2]]) | changed))


def test_a_generator_of_blocks_is_refused() -> None:
    with pytest.raises(TypeError, match="generator, which can be gone through only once"):
        Adjustment.fit((block for block in [np.eye(2)]), [[0], [1]])
    with pytest.raises(TypeError, match="expected integer item ids"):
        Adjustment.fit(np.eye(2), [["Heat"], [1]])


def test_too_few_iterations_are_an_error() -> None:
    scores, truth = problem(6)
    with pytest.raises(RuntimeError, match="Adjust stopped after 1 iterations .* wanted is 0.0001. Raise max_iter"):
        Adjustment.fit(scores, truth, max_iterations=1)


def test_an_adjustment_is_of_one_catalogue() -> None:
    adjustment = Adjustment(np.ones(3), np.zeros(3))
    for scores in (np.eye(2), all_of(np.eye(2))):
        with pytest.raises(ValueError, match="the scores are of 2 items, the adjustment of 3"):
            adjustment.apply(scores)
    with pytest.raises(ValueError, match=r"must both have the shape \(N,\)"):
        Adjustment(np.ones(3), np.zeros(2))
