"""Both families of returns against their sums written out, and the identities that follow from them."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from rankrl.rewards import list_returns, rank_returns

GAINS = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(0, 1))


def plain_log(gains: np.ndarray) -> np.ndarray:
    num_ranks = gains.shape[1]
    return np.array(
        [[sum(row[j] / math.log2(j + 2) for j in range(k, num_ranks)) for k in range(num_ranks)] for row in gains]
    )


def plain_exp(gains: np.ndarray, gamma: float) -> np.ndarray:
    num_ranks = gains.shape[1]
    return np.array(
        [[sum(row[j] / gamma ** (j - k) for j in range(k, num_ranks)) for k in range(num_ranks)] for row in gains]
    )


@pytest.mark.parametrize("kind", ["log", "exp"])
def test_an_early_hit_makes_no_list_worse(kind: Literal["log", "exp"]) -> None:
    """The sum over the returns of its ranks would: a late hit counts at every rank before it."""
    one_hit = list_returns(np.eye(5), kind)
    assert (np.diff(one_hit) <= 0).all()
    assert one_hit[0] == 1.0
    assert (np.diff(rank_returns(np.eye(5), "log").sum(1)) > 0).all()


@given(GAINS)
def test_lists_are_worth_their_dcg_or_their_gains(gains: np.ndarray) -> None:
    np.testing.assert_allclose(list_returns(gains, "log"), plain_log(gains)[:, 0], atol=1e-12)
    np.testing.assert_allclose(list_returns(gains), [sum(row) for row in gains.tolist()], atol=1e-12)


@given(GAINS)
def test_log_is_the_dcg_from_rank_k_on(gains: np.ndarray) -> None:
    np.testing.assert_allclose(rank_returns(gains, "log"), plain_log(gains), atol=1e-12)


@given(GAINS, st.floats(1.01, 50))
def test_exp_is_the_discounted_sum(gains: np.ndarray, gamma: float) -> None:
    np.testing.assert_allclose(rank_returns(gains, "exp", gamma), plain_exp(gains, gamma), atol=1e-12)


@given(GAINS)
def test_infinite_gamma_rewards_each_rank_with_its_own_item(gains: np.ndarray) -> None:
    np.testing.assert_array_equal(rank_returns(gains), gains)


@given(GAINS, st.integers(0, 6), st.sampled_from(["log", "exp"]))
def test_a_rank_is_never_paid_for_what_came_before_it(gains: np.ndarray, rank: int, kind: str) -> None:
    changed = gains.copy()
    changed[:, :rank] = 1 - changed[:, :rank]
    before, after = rank_returns(gains, kind, 2.0), rank_returns(changed, kind, 2.0)
    np.testing.assert_array_equal(before[:, rank:], after[:, rank:])


def test_a_gain_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN in row 1 at rank 2"):
        rank_returns([[1.0, 0.0], [0.0, math.nan]])


def test_hand_worked() -> None:
    gains = [[1.0, 0.0, 1.0]]
    assert rank_returns(gains, "exp", 2.0).tolist() == [[1.25, 0.5, 1.0]]
    assert rank_returns(gains, "exp").tolist() == gains
    np.testing.assert_allclose(rank_returns(gains, "log"), [[1.5, 0.5, 0.5]])


def test_does_not_hand_back_its_input() -> None:
    gains = np.ones((1, 2))
    rank_returns(gains)[0, 0] = 5
    assert gains[0, 0] == 1


@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.0, -2.0, math.nan])
def test_gamma_has_to_be_above_one(gamma: float) -> None:
    with pytest.raises(ValueError, match="above 1.*math.inf"):
        rank_returns([[1.0]], "exp", gamma)


def test_unknown_kind_and_shape() -> None:
    with pytest.raises(ValueError, match="'linear'; expected 'exp'"):
        rank_returns([[1.0]], "linear")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(1,\)"):
        rank_returns([1.0])
