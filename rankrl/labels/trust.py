"""Trust: how much a synthetic label may count, judged by the true labels it never saw.

Retrieval and scoring know nothing of what the user really wanted, so every true label is a hidden one: an augmentation
that finds many of them reads dialogues as users mean them, one that finds no more than random labels would does not.
The idea is that of LLMSeR's reliability validation (arXiv 2503.12547); measure and shrinkage are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankrl.labels.score import Scored
from rankrl.labels.scores_file import HIGHEST

PRIOR = 10.0


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often labels find hidden true ones.

    Attributes:
        found: `(D,)` int64, true labels of each dialogue among its augmented ones.
        wanted: `(D,)` int64, true labels of each dialogue.
        chance: `(D,)` float64, share of them that as many random items would find.
        prior: how many hidden labels the source as a whole counts for in the trust of one dialogue.
    """

    found: NDArray[np.int64]
    wanted: NDArray[np.int64]
    chance: NDArray[np.float64]
    prior: float = PRIOR

    @property
    def recovered(self) -> float:
        """Share of all true labels that were found, in [0, 1]."""
        return float(self.found.sum() / self.wanted.sum())

    @property
    def expected(self) -> float:
        """Share that random labels would have found, in [0, 1]."""
        return float((self.chance * self.wanted).sum() / self.wanted.sum())

    @property
    def source_trust(self) -> float:
        """Trust in the source as a whole: 0 for no better than chance, 1 if every true label is found."""
        return float(_above_chance(np.array(self.recovered), np.array(self.expected)))

    @property
    def dialogue_trust(self) -> NDArray[np.float64]:
        """`(D,)` trust in each dialogue's labels, in [0, 1].

        One or two true labels say little, so a dialogue starts from what its source recovers, worth `prior` labels; a
        dialogue without a true label has its source's trust.
        """
        known = self.wanted > 0
        counted = np.where(known, self.wanted, 1)  # where nothing is wanted the rate is not used: no division by 0
        rate = (self.found + self.prior * self.recovered) / (counted + self.prior)
        return np.where(known, _above_chance(rate, self.chance), self.source_trust)


def reliability(
    labels: Sequence[Mapping[int, float]],
    truth: Sequence[Mapping[int, float]],
    num_items: int,
    *,
    prior: float = PRIOR,
) -> Reliability:
    """Measure how often labels find the true ones, which whoever made the labels must not have seen.

    Args:
        labels: per dialogue the augmented labels, `{item id: gain}`.
        truth: per dialogue the true ones; may be empty.
        num_items: N, what a random label is drawn from.
        prior: see `Reliability`.

    Raises:
        ValueError: if no dialogue has a true label, the two differ in length, or `prior` is negative.

    Example:
        >>> reliability([{1: 1.0, 2: 0.9}], [{1: 1.0, 5: 1.0}], num_items=100).recovered
        0.5
    """
    if len(labels) != len(truth):
        raise ValueError(f"{len(labels)} rows of labels and {len(truth)} of truth; give one of each")
    wanted = np.array([len(row) for row in truth], dtype=np.int64)
    if not wanted.sum():
        raise ValueError(
            "no dialogue has a true label, so nothing can be hidden and found again. Give dialogues whose truth is "
            "known, or say how much the labels may count (trust)."
        )
    if not prior >= 0:
        raise ValueError(f"prior is {prior}; expected 0 (each dialogue by itself) or more")
    found = np.array([len(own.keys() & true.keys()) for own, true in zip(labels, truth, strict=True)], dtype=np.int64)
    chance = np.array([len(own) for own in labels]) / num_items
    return Reliability(found, wanted, chance, prior)


@dataclass(frozen=True)
class CalibrationBin:
    """Items whose score lies in [low, high).

    Attributes:
        low, high: the bin; the last one holds its upper end too.
        items: how many items were scored so.
        wanted: how many of them are true labels.
    """

    low: float
    high: float
    items: int
    wanted: int

    @property
    def rate(self) -> float:
        """Share of the items that are true labels; NaN for an empty bin."""
        return self.wanted / self.items if self.items else float("nan")


def calibration(
    scored: Scored, truth: Sequence[Mapping[int, float]], edges: Sequence[float] = (0, 1, 2, 3, 3.5, HIGHEST)
) -> list[CalibrationBin]:
    """Compare scores with the rate at which hidden true labels are found among the items scored so.

    The rate stays far below 1 however good the scores are, because a log names few of the fitting items. What counts
    is that it rises with the score.

    Args:
        scored: D dialogues.
        truth: per dialogue the true labels; dialogues without any are left out.
        edges: ascending borders of the bins, from 0 to 4.
    """
    known = np.array([bool(row) for row in truth], dtype=bool)
    rated = ~np.isnan(scored.scores) & known[:, None]
    is_true = np.array(
        [[item in row for item in items] for items, row in zip(scored.items.tolist(), truth, strict=True)]
    ).reshape(scored.items.shape)
    bins = np.clip(np.searchsorted(edges, scored.scores[rated], side="right") - 1, 0, len(edges) - 2)
    items = np.bincount(bins, minlength=len(edges) - 1)
    wanted = np.bincount(bins[is_true[rated]], minlength=len(edges) - 1)
    return [
        CalibrationBin(low, high, int(n), int(w))
        for low, high, n, w in zip(edges[:-1], edges[1:], items, wanted, strict=True)
    ]


def _above_chance(rate: NDArray[np.float64], chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where a rate stands between chance (0) and always (1)."""
    room = 1.0 - chance
    return np.clip(np.where(room > 0, (rate - chance) / np.where(room > 0, room, 1.0), 0.0), 0.0, 1.0)
