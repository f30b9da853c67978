"""Adjust: one scale and one bias per item, shared by all dialogues, learned from what users really wanted.

s_final = scale * s_reflect + bias                               (arXiv 2510.20150, appendix A)
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from catalog import Catalog, load_item_arrays, save_item_arrays
from rankrl.demonstrations.candidates import Candidates, as_scores, mean_ranks
from rankrl.demonstrations.likelihood import BlockTruth, ScoreBlocks, TruthLikelihood
from rankrl.demonstrations.objective import FitReport, minimize_loss

logger = logging.getLogger(__name__)

NEUTRAL = {"scale": 1.0, "bias": 0.0}


@dataclass(frozen=True)
class Movement:
    """Items that Adjust moved, the most moved first, with their mean rank (from 1) over the dialogues."""

    items: NDArray[np.int64]
    rank_before: NDArray[np.float64]
    rank_after: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Adjustment:
    """A scale and a bias for every item.

    Args:
        scale: `(N,)` float64.
        bias: `(N,)` float64.
        report: how they were fitted, if they were.

    Example:
        >>> scores = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0]])
        >>> adjustment = Adjustment.fit(scores, truth=[[2], [2]])
        >>> adjustment.apply(scores).argmax(axis=1)
        array([2, 2])

    Source: arXiv 2510.20150, appendix A (Adjust).
    """

    scale: NDArray[np.float64]
    bias: NDArray[np.float64]
    report: FitReport | None = None

    def __post_init__(self) -> None:
        if self.scale.ndim != 1 or self.scale.shape != self.bias.shape:
            raise ValueError(f"scale {self.scale.shape} and bias {self.bias.shape} must both have the shape (N,)")

    @classmethod
    def fit(
        cls,
        scores: ScoreBlocks,
        truth: BlockTruth,
        regularization: float = 0.01,
        *,
        tolerance: float = 1e-4,
        max_iterations: int = 2000,
    ) -> Adjustment:
        """Maximise the likelihood of the wanted items, with an L2 pull towards scale 1 and bias 0.

        Minimises -sum_i sum_{j wanted by i} gain_ij log softmax(scale * s_i + bias)_j + regularization *
        (|scale - 1|^2 + |bias|^2), which is convex, by L-BFGS from scale 1 and bias 0. Each iteration goes through the
        scores once or twice, a few dialogues at a time.

        Args:
            scores: `(D, N)` array, possibly memory-mapped; candidates, of which the softmax then runs over each
                dialogue's own; or an iterable of such blocks of dialogues that can be gone through repeatedly.
            truth: what each of the D dialogues wants, item ids or `{item id: gain}`; beside blocks also one list of
                rows per block. A dialogue that wants nothing does not count.
            regularization: the L2 weight, above 0.
            tolerance: stop where the gradient's norm is below this share of its start.
            max_iterations: of L-BFGS.

        Returns:
            The adjustment. Wanted items that are no candidates are counted in its report, and by a warning.

        Raises:
            TypeError: if `scores` can be gone through only once, or the truth holds something else than ids.
            ValueError: if scores are not finite, shapes disagree, or the truth is outside the catalogue or empty.
            RuntimeError: if the tolerance was not reached.
        """
        if not regularization > 0:
            raise ValueError(f"regularization is {regularization}; it must be above 0, else there may be no optimum")
        likelihood = TruthLikelihood(scores, truth)
        if likelihood.num_missing:
            logger.warning(
                "%d of %d wanted items are no candidates of their dialogue and teach nothing; raise num_candidates",
                *(likelihood.num_missing, likelihood.num_missing + likelihood.num_wanted),
            )
        return cls(*minimize_loss(likelihood, regularization, tolerance, max_iterations))

    @overload
    def apply(self, scores: Candidates) -> Candidates: ...

    @overload
    def apply(self, scores: ArrayLike) -> NDArray[np.float64]: ...

    def apply(self, scores: ArrayLike | Candidates) -> NDArray[np.float64] | Candidates:
        """The final scores, float64, in the form of `scores`: a `(D, N)` array, or candidates.

        Raises:
            ValueError: if the scores are of another number of items, or not finite.
        """
        if isinstance(scores, Candidates):
            self._check_items(scores.num_items)
            return scores.with_scores(scores.scores * self.scale[scores.items] + self.bias[scores.items])
        array = as_scores(scores)
        self._check_items(array.shape[1])
        return array * self.scale + self.bias

    def moved(self, scores: ArrayLike | Candidates, number: int = 10) -> tuple[Movement, Movement]:
        """The items that rose and those that fell most: by their mean rank in the dialogues, before and after.

        Ranks are those among all items that a dialogue scores. Of candidates, the mean runs over the dialogues that
        hold the item, and what is a candidate nowhere has not moved.

        Args:
            scores: what `apply` would be given; some hundred dialogues are enough.
            number: items of each kind, at most.

        Returns:
            What rose, most first, and what fell, most first.
        """
        before, after = mean_ranks(scores), mean_ranks(self.apply(scores))
        return _most_moved(before, after, before - after, number), _most_moved(before, after, after - before, number)

    def save(self, path: str | os.PathLike[str], catalog: Catalog) -> None:
        """Writes scale and bias with the catalogue's version and keys, as one `.npz` file.

        Raises:
            CatalogError: if the catalogue has another number of items.
        """
        save_item_arrays(path, catalog, scale=self.scale, bias=self.bias)

    @classmethod
    def load(cls, path: str | os.PathLike[str], catalog: Catalog) -> Adjustment:
        """Reads what `save` wrote, for the catalogue of today: items the file does not know keep their scores.

        Raises:
            CatalogError: if `save` did not write the file.
        """
        arrays = load_item_arrays(path, catalog, NEUTRAL)
        return cls(arrays["scale"], arrays["bias"])

    def _check_items(self, num_items: int) -> None:
        if num_items != len(self.scale):
            raise ValueError(
                f"the scores are of {num_items} items, the adjustment of {len(self.scale)}; load it for the catalogue "
                "that was scored: Adjustment.load(path, catalog)"
            )


def _most_moved(
    before: NDArray[np.float64], after: NDArray[np.float64], ranks: NDArray[np.float64], number: int
) -> Movement:
    order = np.argsort(-np.nan_to_num(ranks), kind="stable")[:number]
    items = order[ranks[order] > 0]
    return Movement(items, before[items], after[items])
