"""Ctrl-C, or a scheduler's SIGTERM, saves a checkpoint and stops; the same command goes on from there."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

from transformers import Trainer, TrainerCallback


class SaveOnSignal(TrainerCallback):
    """Finishes the step under way, saves, and stops. A second Ctrl-C stops at once, without saving."""

    def __init__(self) -> None:
        self.received: int | None = None

    def listen(self) -> None:
        """Take over SIGINT and SIGTERM until one of them arrives."""
        self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}

    def release(self) -> None:
        """Give the signals back to whoever had them before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        print("\nstopping: the step under way is finished and saved (once more to stop at once)", flush=True)
        self.received = number
        self.release()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.received is not None:
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
    if watcher.received is not None:
        if trainer.is_world_process_zero():
            print(
                f"stopped after step {trainer.state.global_step} of {trainer.state.max_steps}. "
                "The same command with --resume_from_checkpoint latest goes on from there.",
                flush=True,
            )
        sys.exit(128 + watcher.received)
