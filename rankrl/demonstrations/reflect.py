"""Reflect: what a judge says of the best items moves their scores.

s_reflect = s_remap + weight * r                                 (arXiv 2510.20150, appendix A)
"""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankrl.demonstrations.candidates import Candidates, as_scores
from rankrl.rewards.relevance import check_ranked, first_occurrence


@overload
def reflect_scores(
    remap: Candidates, ratings: ArrayLike, weight: float = ..., *, items: ArrayLike | None = ...
) -> Candidates: ...


@overload
def reflect_scores(
    remap: ArrayLike, ratings: ArrayLike, weight: float = ..., *, items: ArrayLike | None = ...
) -> NDArray[np.float64]: ...


def reflect_scores(
    remap: ArrayLike | Candidates, ratings: ArrayLike, weight: float = 0.5, *, items: ArrayLike | None = None
) -> NDArray[np.float64] | Candidates:
    """Add the judge's ratings to the scores.

    Args:
        remap: `(D, N)` scores, or candidates.
        ratings: what the judge said, -2..2 in the paper. NaN is an item without a rating; it counts as 0, "neither good
            nor bad". Shape `(D, N)`, or that of the candidates; with `items`, that of `items`.
        weight: γ; 0.5 brings ratings of -2..2 to -1..1, about the scale of `remap`.
        items: `(D, N_r)`, the items that were rated, such as `top_items(remap, 100)`; -1 pads, with the rating NaN.
            Omit if there is a rating, or NaN, for every score.

    Returns:
        float64 scores in the form of `remap`, which is left as it was.

    Raises:
        ValueError: if shapes disagree, a rating is infinite or belongs to no item, or an item is rated twice or is no
            candidate.

    Example:
        >>> reflect_scores([[1.0, 2.0, 3.0]], [[2.0, -1.0]], items=[[0, 2]])
        array([[2. , 2. , 2.5]])

    Source: arXiv 2510.20150, appendix A (Reflect).
    """
    rated = np.asarray(ratings, dtype=np.float64)
    if np.isinf(rated).any():
        raise ValueError("a rating is infinite; expected a number on the judge's scale, or NaN for an unrated item")
    scores = remap.scores if isinstance(remap, Candidates) else as_scores(remap)
    reflected = scores.astype(np.float64)
    if items is None:
        if rated.shape != scores.shape:
            raise ValueError(
                f"ratings have the shape {rated.shape}, scores {scores.shape}. If only some items were rated, say "
                "which: reflect_scores(remap, ratings, items=top_items(remap, 100))"
            )
        reflected += weight * np.nan_to_num(rated)
    else:
        rows, columns, values = _rated_columns(remap, rated, check_ranked(items), scores.shape)
        reflected[rows, columns] += weight * values
    return remap.with_scores(reflected) if isinstance(remap, Candidates) else reflected


def _rated_columns(
    remap: ArrayLike | Candidates, rated: NDArray[np.float64], items: NDArray[np.int64], shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Row, column and value of every rating."""
    if items.shape != rated.shape or len(items) != shape[0]:
        raise ValueError(
            f"items have the shape {items.shape}, ratings {rated.shape}, scores {shape}; items and ratings must have "
            "one shape, (D, N_r), with a row for each row of the scores"
        )
    given = ~np.isnan(rated)
    if (stray := given & ~first_occurrence(items)).any():
        row, place = np.argwhere(stray)[0]
        raise ValueError(
            f"dialogue {row} rates {items[row, place]} at place {place}: it is -1 (no item), or was rated before"
        )
    rows, places = np.nonzero(given)
    wanted = items[rows, places]
    columns = remap.locate(rows, wanted) if isinstance(remap, Candidates) else np.where(wanted < shape[1], wanted, -1)
    if (columns < 0).any():
        at = int(np.argmin(columns))
        known = "is no candidate there" if isinstance(remap, Candidates) else f"is none of the {shape[1]} items"
        raise ValueError(f"dialogue {rows[at]} rates item {wanted[at]}, which {known}: rate items of top_items(remap)")
    return rows, columns, rated[given]
