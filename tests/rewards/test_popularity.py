"""Inverse-propensity weights by hand, and what holds whatever the counts are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.rewards import inverse_propensity_weights

COUNTS = st.lists(st.integers(0, 10_000), min_size=1, max_size=20).filter(any)


@pytest.mark.parametrize(
    ("counts", "power", "cap", "expected"),
    [
        ([100, 25, 1], 0.5, 4, [1 / 4, 2 / 4, 1]),  # a propensity of 1/10 would weigh 10: capped at 4
        ([100, 25, 1], 0.5, 100, [1 / 10, 2 / 10, 1]),
        ([100, 25, 1], 1.0, 100, [1 / 100, 4 / 100, 1]),
        ([100, 25, 0], 1.0, 200, [1 / 100, 4 / 100, 1]),  # never wanted: as if once
        ([100, 25, 1], 0.0, 10, [1, 1, 1]),
        ([100, 25, 1], 0.5, 1, [1, 1, 1]),
        ([7], 0.5, 10, [1]),
    ],
)
def test_by_hand(counts: list[int], power: float, cap: float, expected: list[float]) -> None:
    np.testing.assert_allclose(inverse_propensity_weights(counts, power, cap), expected)


@given(COUNTS, st.floats(0, 1), st.floats(1, 50))
def test_rarer_items_never_weigh_less_and_all_stay_between_one_and_the_cap(
    counts: list[int], power: float, cap: float
) -> None:
    weights = inverse_propensity_weights(counts, power, cap)
    assert weights.max() == 1.0
    assert weights.min() >= (1 / cap) * (1 - 1e-12)
    assert (np.diff(weights[np.argsort(counts)]) <= 0).all()


@pytest.mark.parametrize(
    ("counts", "settings", "message"),
    [
        ([0, 0], {}, "not all 0"),
        ([], {}, r"got shape \(0,\)"),
        ([[1, 2]], {}, r"got shape \(1, 2\)"),
        ([1, -1], {}, "none negative"),
        ([1, np.nan], {}, "none negative"),
        ([1], {"power": 1.5}, "power is 1.5"),
        ([1], {"power": -0.5}, "power is -0.5"),
        ([1], {"cap": 0.5}, "cap is 0.5"),
        ([1], {"cap": np.nan}, "cap is nan"),
    ],
)
def test_bad_input(counts: list, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inverse_propensity_weights(counts, **settings)
