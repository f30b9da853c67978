"""From scores to labels: what is good enough becomes a label, and counts as far as its source can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankrl.labels.score import Scored
from rankrl.labels.scores_file import HIGHEST
from rankrl.labels.trust import PRIOR, Reliability, reliability

MIN_LABEL_SCORE = 3.5


@dataclass(frozen=True, eq=False)
class AugmentedLabels:
    """What would suit the users of D dialogues.

    Attributes:
        labels: per dialogue `{item id: gain}`, best first; gain = trust x score / 4, in (0, 1].
        trust: `(D,)` float64, what was trusted of each dialogue.
        reliability: what trust was measured by; None where it was given.
    """

    labels: list[dict[int, float]]
    trust: NDArray[np.float64]
    reliability: Reliability | None


def weigh_by_trust(
    labels: Sequence[Mapping[int, float]],
    truth: Sequence[Mapping[int, float]],
    num_items: int,
    *,
    prior: float = PRIOR,
    trust: float | None = None,
) -> AugmentedLabels:
    """Let labels count as far as they find hidden true ones.

    Args:
        labels: per dialogue `{item id: gain}` (`kept_labels`).
        truth: per dialogue the true labels, which whoever made the labels must not have seen. A true label may be found
            again as an augmented one: where the two are blended, the larger gain counts.
        num_items: N.
        prior: see `Reliability`.
        trust: trust all labels so much, in [0, 1], instead of measuring it.

    Returns:
        The labels; none for a dialogue whose labels cannot be trusted at all.

    Raises:
        ValueError: if `trust` is out of range, or trust has to be measured and no truth is known.

    Source: the idea of reliability validation, arXiv 2503.12547.
    """
    if trust is not None and not 0 <= trust <= 1:
        raise ValueError(f"trust is {trust}; expected 0 (labels count nothing) to 1 (as much as true ones)")
    measured = reliability(labels, truth, num_items, prior=prior) if trust is None else None
    trusted = np.full(len(labels), trust) if measured is None else measured.dialogue_trust
    weighed = [
        {item: float(share * gain) for item, gain in row.items()} if share > 0 else {}
        for row, share in zip(labels, trusted, strict=True)
    ]
    return AugmentedLabels(weighed, trusted, measured)


def kept_labels(scored: Scored, min_label_score: float = MIN_LABEL_SCORE) -> list[dict[int, float]]:
    """Per dialogue `{item id: score / 4}` of what is scored at least `min_label_score`, best first, then as retrieved.

    Raises:
        ValueError: if `min_label_score` is not in (0, 4].

    Source: arXiv 2508.05657, which keeps scores of at least 3.5.
    """
    if not 0 < min_label_score <= HIGHEST:
        raise ValueError(
            f"min_label_score is {min_label_score}; expected a score above 0, at most {HIGHEST:g} (the paper: 3.5)"
        )
    kept = []
    for items, scores in zip(scored.items, scored.scores, strict=True):
        order = np.argsort(-np.nan_to_num(scores, nan=-1.0), kind="stable")
        kept.append({int(items[at]): float(scores[at] / HIGHEST) for at in order if scores[at] >= min_label_score})
    return kept


def replace_at_random(
    labels: Sequence[Mapping[int, float]], num_items: int, share: float, *, seed: int = 0
) -> list[dict[int, float]]:
    """Put random items in the place of some labels: what if the teacher were wrong?

    Args:
        labels: per dialogue `{item id: gain}`.
        num_items: N, what is drawn from.
        share: of the labels, in [0, 1]; each label is replaced with this probability and keeps its gain.
        seed: of the draws.

    Returns:
        As many labels per dialogue, no item twice.

    Raises:
        ValueError: if `share` is out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; expected a share of the labels, 0 (replace none) to 1 (all)")
    rng = np.random.default_rng(seed)
    replaced = []
    for row in labels:
        wrong = rng.random(len(row)) < share
        free = rng.permutation(np.delete(np.arange(num_items), list(row))).tolist()
        replaced.append(
            {
                (free.pop() if swap and free else item): gain
                for (item, gain), swap in zip(row.items(), wrong.tolist(), strict=True)
            }
        )
    return replaced
