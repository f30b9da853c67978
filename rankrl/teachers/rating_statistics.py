"""How far a judge can be trusted: does the place in the list matter, does it contradict itself, does it answer?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankrl.teachers.prompts import Scale


@dataclass(frozen=True)
class RatingStatistics:
    """Facts about the ratings of many dialogues.

    Attributes:
        items: candidates in all.
        requests: how many times the judge was asked.
        position_correlation: Pearson correlation of rating and place in the window, -1 to 1, pooled over all windows
            after taking each window's own means off. As items are shown in random order, an unbiased judge gives about
            0; below 0, early places are favoured. NaN if no window shows both places and ratings that differ.
        flipped: share, of the items rated in at least two orders, that were above the middle of the scale in one order
            and below it in another. NaN if there is none, as after a single order.
        changed: share of the same items whose level was not the same in all orders.
        unrated: share of the items that were rated in no order.
        silent: share of the requests that were refused or answered with nothing.
        ignored: lines of the answers that counted for nothing, by reason (see `parse_ratings`).
    """

    items: int
    requests: int
    position_correlation: float
    flipped: float
    changed: float
    unrated: float
    silent: float
    ignored: dict[str, int]


def rating_statistics(
    tables: Sequence[NDArray[np.float64]],
    showings: Sequence[tuple[int, int, Sequence[int]]],
    scale: Scale,
    *,
    ignored: Mapping[str, int],
    silent: int,
) -> RatingStatistics:
    """Statistics of ratings.

    Args:
        tables: per dialogue `(orders, n)` ratings, NaN where a candidate was not rated.
        showings: dialogue, order, and the candidates in the order shown, of every request.
        scale: the levels.
        ignored: ignored lines by reason.
        silent: requests without an answer text.
    """
    items = sum(table.shape[1] for table in tables)
    middle = (min(scale) + max(scale)) / 2
    several = changed = flipped = unrated = 0
    for table in tables:
        rated = ~np.isnan(table)
        compared = rated.sum(axis=0) >= 2
        highest = np.where(rated, table, -math.inf).max(axis=0)
        lowest = np.where(rated, table, math.inf).min(axis=0)
        several += int(compared.sum())
        changed += int((compared & (highest > lowest)).sum())
        flipped += int((compared & (highest > middle) & (lowest < middle)).sum())
        unrated += int((~rated.any(axis=0)).sum())
    return RatingStatistics(
        items=items,
        requests=len(showings),
        position_correlation=_position_correlation(tables, showings),
        flipped=_share(flipped, several),
        changed=_share(changed, several),
        unrated=_share(unrated, items),
        silent=_share(silent, len(showings)),
        ignored=dict(ignored),
    )


def _position_correlation(
    tables: Sequence[NDArray[np.float64]], showings: Sequence[tuple[int, int, Sequence[int]]]
) -> float:
    products = rating_squares = place_squares = 0.0
    for dialogue, order, shown in showings:
        ratings = tables[dialogue][order, list(shown)]
        places = np.arange(len(shown)) / max(len(shown) - 1, 1)  # 0 first, 1 last, whatever the window's size
        rated = ~np.isnan(ratings)
        if not rated.any():
            continue
        ratings, places = ratings[rated] - ratings[rated].mean(), places[rated] - places[rated].mean()
        products += float(ratings @ places)
        rating_squares += float(ratings @ ratings)
        place_squares += float(places @ places)
    scale = math.sqrt(rating_squares * place_squares)
    return products / scale if scale > 0 else math.nan


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
