"""How well a scorer agrees with the teacher that it stands in for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr


def teacher_agreement(scores: ArrayLike, teacher: ArrayLike, threshold: float = 3.5) -> dict[str, float | None]:
    """Compare two scores of the same n pairs of dialogue and item.

    Args:
        scores: `(n,)`, of the scorer.
        teacher: `(n,)`, of the teacher.
        threshold: from which score on an item becomes a label.

    Returns:
        `mse`; `spearman`, the correlation of ranks, ties at their mean rank; `precision` and `recall` of "at or above
        the threshold", by the teacher; `labels`, the share of such pairs by the scorer, and `teacher_labels`. None for
        what is undefined: a correlation with a constant, the precision of no label, the recall where there are none.

    Raises:
        ValueError: if the lengths differ or are 0, or a score is no number.

    Example:
        >>> teacher_agreement([4.0, 1.0], [3.5, 2.0])["spearman"]
        1.0
    """
    found, wanted = (np.asarray(values, dtype=np.float64) for values in (scores, teacher))
    if found.shape != wanted.shape or found.ndim != 1 or not found.size:
        raise ValueError(
            f"scores of shape {found.shape} and {wanted.shape}; expected one score of each pair, some pairs"
        )
    if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        raise ValueError("some of the scores are no numbers; leave out pairs that one of the two has not rated")
    labels, teacher_labels = found >= threshold, wanted >= threshold
    both = int((labels & teacher_labels).sum())
    return {
        "mse": float(np.mean((found - wanted) ** 2)),
        "spearman": _rank_correlation(found, wanted),
        "precision": both / int(labels.sum()) if labels.any() else None,
        "recall": both / int(teacher_labels.sum()) if teacher_labels.any() else None,
        "labels": float(labels.mean()),
        "teacher_labels": float(teacher_labels.mean()),
    }


def _rank_correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float | None:
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    return float(spearmanr(left, right).statistic)
