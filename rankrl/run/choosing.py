"""Which checkpoint is best and when to stop: the rule itself, apart from any training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rankrl.evaluation import standard_error

VALIDATION_FILE = "validation.json"


@dataclass(frozen=True)
class Look:
    """One validation of one checkpoint.

    Attributes:
        step: optimizer steps taken.
        mean: of the score over the rows.
        standard_error: of that mean, over dialogues.
        gain: mean paired difference to the best before it; None at the first look.
        gain_standard_error: of that difference, over dialogues.
        best: is it the new best?
        measures: further means that are only looked at.
    """

    step: int
    mean: float
    standard_error: float
    gain: float | None
    gain_standard_error: float | None
    best: bool
    measures: Mapping[str, float] = field(default_factory=dict)


class Choice:
    """The best of a sequence of checkpoints that are scored on the same rows.

    Each look at the same sample is another chance to be lucky, so "best" changes only on a gain above one standard
    error of the paired difference. (A one-standard-error rule as in Breiman et al., *Classification and Regression
    Trees*, 1984, 3.4.3: among what cannot be told apart the simpler is taken, here the one trained for less long.)

    Args:
        dialogues: B names; rows with the same name are of one dialogue.
        patience: looks without a new best after which training may stop; None: never.

    Attributes:
        looks: all looks, in order.
        best_scores: `(B,)` float64, scores of the best by row.

    Example:
        >>> choice = Choice(["a", "b", "c"], patience=2)
        >>> choice.look(0, [0.1, 0.2, 0.3]).best, choice.look(10, [0.2, 0.3, 0.4]).best
        (True, True)
    """

    def __init__(self, dialogues: Sequence[str], patience: int | None = None) -> None:
        self.dialogues = list(dialogues)
        self.patience = patience
        self.looks: list[Look] = []
        self.best_scores = np.zeros(0)

    @property
    def best_step(self) -> int | None:
        """The step of the best look so far; None before the first."""
        return next((look.step for look in reversed(self.looks) if look.best), None)

    @property
    def exhausted(self) -> bool:
        """Have the last `patience` looks brought no new best?"""
        last = self.looks[-self.patience :] if self.patience else []
        return len(last) == self.patience and not any(look.best for look in last)

    def look(self, step: int, scores: ArrayLike, measures: Mapping[str, float] | None = None) -> Look:
        """Judge a checkpoint by its scores, `(B,)`.

        Raises:
            ValueError: if there is not one finite score for each row, or only one dialogue.
        """
        scores = np.asarray(scores, dtype=np.float64)
        mean, error = float(scores.mean()), standard_error(scores, self.dialogues)
        gain, gain_error, best = None, None, True
        if self.looks:
            difference = scores - self.best_scores
            gain, gain_error = float(difference.mean()), standard_error(difference, self.dialogues)
            best = gain > gain_error
        look = Look(step, mean, error, gain, gain_error, best, dict(measures or {}))
        self.looks.append(look)
        if best:
            self.best_scores = scores
        return look

    def state(self) -> dict[str, Any]:
        """All that the next look depends on, for JSON."""
        return {"looks": [asdict(look) for look in self.looks], "best_scores": self.best_scores.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.looks = [Look(**look) for look in state["looks"]]
        self.best_scores = np.asarray(state["best_scores"], dtype=np.float64)

    def summary(self) -> dict[str, Any]:
        """For `validation.json`: which is best, how many were looked at, and every look."""
        return {
            "best_step": self.best_step,
            "looked_at": len(self.looks),
            "patience_ran_out": self.exhausted,
            "validations": [asdict(look) for look in self.looks],
        }


def choice_behind(model: str | Path) -> dict[str, Any] | None:
    """What `validation.json` says of the run that a model was chosen from: `RUN`, `RUN/best` or `RUN/checkpoint-100`.

    Returns:
        The content of the file, or None for a model that was not validated in training.
    """
    path = Path(model)
    inside = path.name == "best" or path.name.startswith("checkpoint-")
    file = (path.parent if inside else path) / VALIDATION_FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
