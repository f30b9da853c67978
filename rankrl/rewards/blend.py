"""How much true and augmented labels count, and how that changes over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

ScheduleKind = Literal["constant", "linear", "two_stage", "augmented_only"]


class LabelWeights(NamedTuple):
    """What the gain of a label is multiplied by, in [0, 1] each.

    Attributes:
        true: for items that the user really wanted.
        augmented: for items that somebody found fitting though no user named them.
    """

    true: float
    augmented: float


@dataclass(frozen=True)
class LabelSchedule:
    """The weights of true and augmented labels over training.

    Args:
        weight: of augmented labels, in [0, 1]. 0 leaves them out, to the last bit.
        kind: `constant`: true labels count in full, augmented ones `weight`, always. `linear`: the weight of augmented
            labels falls to 0 by the end. `two_stage`: first augmented labels alone, then true labels alone
            (arXiv 2508.05657). `augmented_only`: augmented labels alone, always.
        switch: share of the training after which `two_stage` changes over, in (0, 1).

    Raises:
        ValueError: for an unknown kind, a number out of its range, or a schedule under which nothing ever counts.

    Example:
        >>> LabelSchedule(0.5, "linear").at(0.25)
        LabelWeights(true=1.0, augmented=0.375)
    """

    weight: float = 0.0
    kind: ScheduleKind = "constant"
    switch: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScheduleKind):
            raise ValueError(f"label schedule is {self.kind!r}; expected one of {', '.join(get_args(ScheduleKind))}.")
        if not 0 <= self.weight <= 1:
            raise ValueError(
                f"the weight of augmented labels is {self.weight}; expected a share from 0 (left out) to 1 (as much as "
                "their gain says)."
            )
        if not 0 < self.switch < 1:
            raise ValueError(f"switch is {self.switch}; expected the share of training that stage one takes, (0, 1).")
        if self.kind in ("two_stage", "augmented_only") and self.weight == 0:
            raise ValueError(
                f"label schedule {self.kind!r} pays for augmented labels alone, but their weight is 0: nothing would "
                "be earned. Set a weight above 0."
            )

    @property
    def changes(self) -> bool:
        """Does it depend on how far the training is?"""
        return self.weight > 0 and self.kind in ("linear", "two_stage")

    def at(self, progress: float) -> LabelWeights:
        """The weights at a share of the training done, in [0, 1]."""
        if not 0 <= progress <= 1:
            raise ValueError(f"progress is {progress}; expected the share of the training that is done, 0 to 1.")
        if self.kind == "linear":
            return LabelWeights(1.0, self.weight * (1 - progress))
        if self.kind == "constant":
            return LabelWeights(1.0, self.weight)
        if self.kind == "two_stage" and progress >= self.switch:
            return LabelWeights(1.0, 0.0)
        return LabelWeights(0.0, self.weight)


def blend_labels(
    truth: Sequence[Mapping[int, float]], augmented: Sequence[Mapping[int, float]], weights: LabelWeights
) -> list[dict[int, float]]:
    """Put true and augmented labels into one truth.

    Args:
        truth: per row `{item id: gain}`, what the user wanted.
        augmented: per row `{item id: gain}`, what fits though no user named it; an item may be in both.
        weights: of the two.

    Returns:
        Per row `{item id: gain}`, the larger weighted gain of an item; items that count for nothing are left out.

    Raises:
        ValueError: if the two differ in length.

    Example:
        >>> blend_labels([{3: 1.0}], [{3: 0.8, 7: 0.6}], LabelWeights(1.0, 0.5))
        [{3: 1.0, 7: 0.3}]
    """
    if len(truth) != len(augmented):
        raise ValueError(f"{len(truth)} rows of true labels and {len(augmented)} of augmented ones; give one of each.")
    return [_blend_row(true, extra, weights) for true, extra in zip(truth, augmented, strict=True)]


def _blend_row(true: Mapping[int, float], augmented: Mapping[int, float], weights: LabelWeights) -> dict[int, float]:
    blended = {item: weights.true * gain for item, gain in true.items()} if weights.true else {}
    if weights.augmented:
        for item, gain in augmented.items():
            blended[item] = max(weights.augmented * gain, blended.get(item, 0.0))
    return blended
