"""Paying less for what is popular anyway: inverse-propensity weights with a cap."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def inverse_propensity_weights(counts: ArrayLike, power: float = 0.5, cap: float = 10.0) -> NDArray[np.float64]:
    """What a hit on each item is worth if popular items are logged more often than they are liked.

    The propensity of an item, how likely a liking is to be logged, is taken to grow with its popularity:
    p = (count / largest count) ** power. A hit then weighs min(1 / p, cap), divided by the largest such weight, so that
    gains stay in (0, 1]. Items that were never wanted weigh as much as the cap allows: their count is taken as 1.

    Args:
        counts: `(N,)` how often each item was wanted in the training data.
        power: 0 weighs all items alike; 1 makes each item as important as it is rare.
        cap: the most that a rare item may weigh beside the most popular one, at least 1. Without a cap a few accidental
            hits on rare items would decide the gradient.

    Returns:
        `(N,)` float64 in [1 / cap, 1].

    Raises:
        ValueError: for negative counts, counts that are all 0, a power outside [0, 1] or a cap below 1.

    Example:
        >>> inverse_propensity_weights([100, 25, 1], power=0.5, cap=4)
        array([0.25, 0.5 , 1.  ])

    Source: arXiv 1602.05352 (propensity-scored learning from implicit feedback), clipped; the power law of propensities
    is a modelling choice.
    """
    wanted = np.asarray(counts, dtype=np.float64)
    if wanted.ndim != 1 or not np.isfinite(wanted).all() or (wanted < 0).any() or not wanted.any():
        raise ValueError(
            f"counts must say for each item how often it was wanted: a one-dimensional array, none negative, not all "
            f"0; got shape {wanted.shape}"
        )
    if not 0 <= power <= 1:
        raise ValueError(f"power is {power}; expected 0 (popularity does not matter) to 1 (as important as rare)")
    if not cap >= 1:
        raise ValueError(f"cap is {cap}; expected at least 1: the weight of a rare item beside the most popular one")
    propensity = (np.maximum(wanted, 1.0) / wanted.max()) ** power
    weights = np.minimum(1.0 / propensity, cap)
    return weights / weights.max()
