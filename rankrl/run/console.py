"""What a person sees while a stage trains: one row of the numbers that matter, the time left, and where it went."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback
from transformers.utils import logging as transformers_logging

# Heading -> key of the training log.
SFT_COLUMNS = {"loss": "loss", "token acc": "mean_token_accuracy", "eval loss": "eval_loss"}
RANK_GRPO_COLUMNS = {
    "reward": "reward",
    "hit": "hit/all",
    "in catalog": "in_catalog/all",
    "repeat": "repeat/all",
    "length": "list_length",
    "informative": "informative/all",
    "entropy": "entropy/all",
    "KL": "kl/all",
}


def show_log(level: int = logging.INFO) -> None:
    """Show what a recipe logs. Of several processes the first says what it does, the others only what is wrong."""
    first = os.environ.get("RANK", "0") == "0"  # by the launcher
    logging.basicConfig(level=level if first else logging.WARNING, format="%(name)s: %(message)s")
    # TRL reads names that transformers will drop, at every checkpoint; who trains can do nothing about it.
    warnings.filterwarnings("ignore", ".*gradient_checkpointing` is deprecated", FutureWarning)


class ConsoleCallback(TrainerCallback):
    """Prints a row at every logging step, in the place of transformers' bar and dictionaries.

    Args:
        columns: heading -> key of the log. A number that a step does not have is left blank.
    """

    def __init__(self, columns: dict[str, str]) -> None:
        self.columns = columns
        self._rows = 0
        self._started = (0.0, 0)

    @classmethod
    def install(cls, trainer: Trainer, columns: dict[str, str]) -> None:
        """Replace the trainer's own progress output."""
        trainer.remove_callback(ProgressCallback)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(cls(columns))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started = (time.monotonic(), state.global_step)
        transformers_logging.disable_progress_bar()  # one at every checkpoint would cut the table

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not logs or not any(key in logs for key in self.columns.values()):
            return
        if self._rows % 20 == 0:
            print(f"{'step':>11}  " + "  ".join(f"{heading:>11}" for heading in self.columns) + "    time left")
        self._rows += 1
        cells = (f"{logs[key]:11.4g}" if logs.get(key) is not None else " " * 11 for key in self.columns.values())
        place = f"{state.global_step}/{state.max_steps}"
        print(f"{place:>11}  " + "  ".join(cells) + f"    {self._time_left(state):>9}", flush=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        transformers_logging.enable_progress_bar()
        if state.is_world_process_zero and (split := time_split(state.log_history)):
            print(split, flush=True)

    def _time_left(self, state: Any) -> str:
        begun, first_step = self._started
        if (steps := state.global_step - first_step) <= 0:
            return ""
        left = round((time.monotonic() - begun) / steps * (state.max_steps - state.global_step))
        return f"{left // 60}:{left % 60:02d}"


def time_split(history: Iterable[Mapping[str, float]]) -> str:
    """Where the time of a run went, in one line, from its log: `time/step` and `time/PHASE`, seconds a step.

    Example:
        >>> time_split([{"step": 1, "time/step": 2.0, "time/generate": 1.5, "time/update": 0.5}])
        'a step took 2 s: generate 75 %, update 25 %'

    Empty if the log holds no times, as that of SFT.
    """
    total: Counter[str] = Counter()
    steps = 0
    for entry in history:
        if "time/step" in entry:
            # An entry speaks of the steps since the one before.
            since, steps = entry["step"] - steps, int(entry["step"])
            total.update({name: since * value for name, value in entry.items() if name.startswith("time/")})
    if not total:
        return ""
    step = total.pop("time/step")
    phases = (f"{name.removeprefix('time/').replace('_', ' ')} {100 * t / step:.2g} %" for name, t in total.items())
    return f"a step took {step / steps:.3g} s: {', '.join(phases)}"
