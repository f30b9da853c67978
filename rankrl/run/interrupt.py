"""Ctrl-C, or a scheduler's SIGTERM, saves a checkpoint and stops; the same command goes on from there.

With several processes torch's launcher kills what has not ended 30 seconds after the signal. Where a step and its
checkpoint take longer than that, save often (`save_steps`), and an interruption costs the steps since the last save.
"""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType
from typing import Any

import torch
from torch import distributed
from transformers import Trainer, TrainerCallback

# A launcher passes on the Ctrl-C that the terminal has sent to its processes already: seconds, not one more press.
SAME_PRESS = 1.0


class SaveOnSignal(TrainerCallback):
    """Finishes the step under way, saves, and stops. A second Ctrl-C stops at once, without saving.

    Several processes stop after the same step, whichever of them the signal reached.
    """

    def __init__(self) -> None:
        self.received = 0
        self._since = 0.0

    def listen(self) -> None:
        """Take over SIGINT and SIGTERM."""
        self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}

    def release(self) -> None:
        """Give the signals back to whoever had them before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._since = number, now
            print("\nstopping: the step under way is finished and saved (once more to stop at once)", flush=True)
        elif now - self._since > SAME_PRESS:
            self.release()
            signal.raise_signal(number)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if distributed.is_initialized():
            received = torch.tensor(self.received, device=args.device)
            distributed.all_reduce(received, op=distributed.ReduceOp.MAX)
            self.received = int(received)
        if self.received:
            control.should_save = control.should_training_stop = True


def train(trainer: Trainer, checkpoint: str | None) -> None:
    """Train, from a checkpoint if there is one, so that an interruption loses nothing.

    Raises:
        SystemExit: with 128 + the signal's number, after an interruption was saved.
    """
    watcher = SaveOnSignal()
    trainer.add_callback(watcher)
    watcher.listen()
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        watcher.release()
    if watcher.received:
        if trainer.is_world_process_zero():
            print(
                f"stopped after step {trainer.state.global_step} of {trainer.state.max_steps}. "
                "The same command with --resume_from_checkpoint latest goes on from there.",
                flush=True,
            )
        sys.exit(128 + watcher.received)
