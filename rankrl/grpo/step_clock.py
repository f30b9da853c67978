"""Where the seconds of a training step go.

TRL times its methods too (`trl.extras.profiling`), but sends each call to wandb, MLflow or Trackio alone: nothing adds
them up to a step, and nested ones count twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback

PHASES = ("generate", "reward", "log_probs", "credit", "update", "other")


class StepClock(TrainerCallback):
    """Splits the time of optimizer steps among phases: what begins inside a phase interrupts it.

    A step is `update` (forward, backward, optimizer) where nothing else is going on.

    Args:
        device: of the model. What it has been asked to do before a phase ends belongs to that phase.

    Example:
        >>> with clock.phase("reward"):
        ...     rewards = reward(completions)
        >>> clock.take()  # {"time/step": 1.25, "time/generate": ..., ..., "time_share/generate": ..., ...}
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._steps = 0
        self._running: list[str] = []  # the last one counts, the others are interrupted
        self._since = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside as one of `PHASES`."""
        self._charge()
        self._running.append(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def take(self) -> dict[str, float]:
        """Seconds a step since the last call, `time/step` and for each phase `time/PHASE` and its `time_share/PHASE`.

        Empty if no step has ended since.
        """
        if not self._steps:
            return {}
        seconds = {name: total / self._steps for name, total in self._seconds.items()}
        step = sum(seconds.values())
        self._seconds, self._steps = dict.fromkeys(PHASES, 0.0), 0
        return {
            "time/step": step,
            **{f"time/{name}": value for name, value in seconds.items()},
            **{f"time_share/{name}": value / step for name, value in seconds.items()},
        }

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """A step is an update, until told otherwise."""
        self._running = []
        self._charge()
        self._running = ["update"]

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """What follows (saving, validation) is not part of a step."""
        self._charge()
        self._running = []
        self._steps += 1

    def _charge(self) -> None:
        if self._device.type != "cpu":
            torch.accelerator.synchronize()
        now = time.perf_counter()
        if self._running:
            self._seconds[self._running[-1]] += now - self._since
        self._since = now
