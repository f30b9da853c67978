"""The highest scores of a row, without sorting the row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def top_columns(scores: NDArray[np.floating], number: int) -> NDArray[np.int64]:
    """The columns of the `number` highest of `(N,)` scores, ascending; of equal scores the first columns."""
    if number >= len(scores):
        return np.arange(len(scores))
    border = len(scores) - number
    least = np.partition(scores, border)[border]
    above = np.flatnonzero(scores > least)
    level = np.flatnonzero(scores == least)[: number - len(above)]
    return np.sort(np.concatenate([above, level]))
