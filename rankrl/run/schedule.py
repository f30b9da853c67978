"""A learning rate that steps down while a run goes on, as the runs of arXiv 2510.20150 do (its appendix C)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from transformers import TrainerCallback

logger = logging.getLogger(__name__)

_FLAT = ("constant", "constant_with_warmup")


@dataclass
class ScheduleArguments:
    """Stage 2: when the learning rate steps down.

    Args:
        learning_rate_steps: (YAML) the rate from an optimizer step on, or from a share of training on where the key is
            below 1: `{8000: 1.0e-7}`, `{0.5: 1.0e-7}` (the second of two epochs).

    Raises:
        ValueError: for a step that is not above 0, or rates that do not fall.

    Example:
        >>> ScheduleArguments({0.5: "2.5e-7", 0.75: 1e-7}).learning_rate_steps
        {0.5: 2.5e-07, 0.75: 1e-07}
    """

    learning_rate_steps: dict | None = field(
        default=None,
        metadata={"help": "Step, or share of training below 1 -> learning rate from there on (flag: JSON)."},
    )

    def __post_init__(self) -> None:
        if self.learning_rate_steps is None:
            return
        # YAML reads 1e-7, without a dot, as text.
        steps = {float(at): float(rate) for at, rate in self.learning_rate_steps.items()}
        for at in steps:
            if not at > 0 or (at >= 1 and at != int(at)):
                raise ValueError(
                    f"learning_rate_steps names step {at:g}; expected a whole number of optimizer steps, or a share of "
                    "training between 0 and 1."
                )
        if len({at < 1 for at in steps}) > 1:
            raise ValueError(
                f"learning_rate_steps names {', '.join(f'{at:g}' for at in steps)}: steps and shares of training. "
                "Give one or the other."
            )
        rates = [steps[at] for at in sorted(steps)]
        if not all(rate > after for rate, after in pairwise([*rates, 0.0])):
            raise ValueError(
                f"learning_rate_steps goes through the rates {', '.join(f'{rate:g}' for rate in rates)}; expected each "
                "to be below the one before, and above 0."
            )
        self.learning_rate_steps = {at: steps[at] for at in sorted(steps)}


class LearningRateSteps(TrainerCallback):
    """Lets the rate fall at the steps that the arguments name.

    The rate is a function of the step alone, so a resumed run walks down the same stairs. A warm-up of the scheduler is
    kept: the rates are what it warms up to.

    Args:
        schedule: the steps, none allowed.
        args: of the trainer; `learning_rate` is the rate before the first step.

    Raises:
        ValueError: if the scheduler bends the rate too, or the rates do not fall.

    Example:
        >>> trainer.add_callback(LearningRateSteps(ScheduleArguments({8000: 1e-7}), trainer.args))
    """

    def __init__(self, schedule: ScheduleArguments, args: Any) -> None:
        self.steps = schedule.learning_rate_steps or {}
        if not self.steps:
            return
        kind = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
        if kind not in _FLAT:
            raise ValueError(
                f"lr_scheduler_type is {kind!r}, which changes the learning rate by itself, and learning_rate_steps "
                f"would change it once more. Set lr_scheduler_type to {' or '.join(_FLAT)}, or leave "
                "learning_rate_steps out."
            )
        first = next(iter(self.steps.values()))
        if not first < args.learning_rate:
            raise ValueError(
                f"learning_rate_steps begins with {first:g}, which is not below learning_rate, {args.learning_rate:g}. "
                "learning_rate is the rate before the first step; the rates step down from there."
            )

    def on_train_begin(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **kwargs: Any) -> None:
        if not self.steps:
            return
        stairs = self.in_steps(state.max_steps)
        scheduler = getattr(lr_scheduler, "scheduler", lr_scheduler)  # accelerate wraps it under DeepSpeed
        if not hasattr(scheduler, "lr_lambdas"):
            raise ValueError(
                f"learning_rate_steps needs the scheduler of transformers, and this run has a "
                f"{type(scheduler).__name__}. Take the scheduler out of the DeepSpeed config, or leave "
                "learning_rate_steps out."
            )
        scheduler.lr_lambdas = [_times(flat, stairs, args.learning_rate) for flat in scheduler.lr_lambdas]
        rates = ", ".join(f"from step {step} on {rate:g}" for step, rate in stairs.items())
        logger.info("learning rate %g, %s", args.learning_rate, rates)
        if late := [step for step in stairs if step >= state.max_steps]:
            logger.warning(
                "training ends after %d steps, before step %d of learning_rate_steps", state.max_steps, late[0]
            )

    def in_steps(self, max_steps: int) -> dict[int, float]:
        """The rates by the optimizer step that they begin with; a share of training is rounded up to whole steps."""
        return {math.ceil(round(at * max_steps, 6)) if at < 1 else int(at): rate for at, rate in self.steps.items()}


def _times(flat: Callable[[int], float], stairs: dict[int, float], start: float) -> Callable[[int], float]:
    """The factor of the rate at a step: that of the scheduler itself times how far the rate has stepped down."""

    def factor(step: int) -> float:
        return flat(step) * min([rate for begin, rate in stairs.items() if step >= begin], default=start) / start

    return factor
