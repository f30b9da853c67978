"""Ctrl-C, or a scheduler's SIGTERM, saves a checkpoint and stops; the same command goes on from there.

With several processes torch's launcher passes the signal on, and kills what has not ended 30 seconds later. Where a
step and its checkpoint take longer, `TORCH_ELASTIC_SHUTDOWN_TIMEOUT` in the environment is how many seconds it waits.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import distributed
from transformers import Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME

from rankrl.run.checkpoints import is_whole
from rankrl.run.faults import GO_ON, ProcessLostError, explain_faults

logger = logging.getLogger(__name__)

# A launcher passes on the Ctrl-C that the terminal has sent to its processes already: seconds, not one more press.
SAME_PRESS = 1.0


class NothingLeftToTrainError(Exception):
    """The checkpoint that a run goes on from is its end. transformers would train one step more."""


class SaveOnSignal(TrainerCallback):
    """Finishes the step under way, saves, and stops. A second signal stops at once, without saving.

    Several processes stop after the same step, whichever of them the signal reached.

    Attributes:
        received: the signal that this process got; 0: none.
        stopping: the signal that all processes have agreed to stop for.
        afterwards: who gets the signals when training has ended.
    """

    def __init__(self) -> None:
        self.received = 0
        self.stopping = 0
        self._since = 0.0

    def listen(self) -> None:
        """Take over SIGINT and SIGTERM."""
        self.afterwards = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}

    def release(self) -> None:
        """Give the signals back to whoever had them before."""
        for number, handler in self.afterwards.items():
            signal.signal(number, handler)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # What else may end a run (a budget of lists, patience) has said so by now: this callback comes last.
        if state.global_step and (control.should_training_stop or state.global_step >= state.max_steps):
            raise NothingLeftToTrainError

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._since = number, now
            print("\nstopping: the step under way is finished and saved (once more to stop at once)", flush=True)
        elif now - self._since > SAME_PRESS:
            self.release()
            signal.raise_signal(number)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.stopping = self.received
        if distributed.is_initialized():
            received = torch.tensor(self.received, device=args.device)
            distributed.all_reduce(received, op=distributed.ReduceOp.MAX)
            self.stopping = int(received)
        if self.stopping:
            control.should_save = control.should_training_stop = True


def train(trainer: Trainer, checkpoint: str | None) -> None:
    """Train, from a checkpoint if there is one, and save the last weights; an interruption loses nothing.

    A checkpoint at the end of the run is not trained further: its weights are saved as they are.

    All processes of the launch leave it together.

    Raises:
        SystemExit: with 128 + the signal's number, after an interruption was saved.
        OSError: if the disk is full, or another process has ended or is late, with what is left and how to go on.
        torch.OutOfMemoryError: with what to lower.
    """
    watcher = SaveOnSignal()
    trainer.add_callback(watcher)
    watcher.listen()
    try:
        with explain_faults(trainer.args):
            trained = True
            try:
                trainer.train(resume_from_checkpoint=checkpoint)
            except NothingLeftToTrainError:
                trained = False
                logger.info("nothing is left to train: %s is the end of the run", checkpoint)
            if not watcher.stopping:  # an unfinished stage must not look finished
                trainer.save_model()
                if trained or not _is_written(trainer):
                    trainer.save_state()
    except ProcessLostError:  # the launcher's signal is on its way: this process first says why it ends
        watcher.afterwards[signal.SIGTERM] = signal.SIG_IGN
        raise
    finally:
        watcher.release()
    if watcher.stopping and trainer.is_world_process_zero():
        print(f"stopped after step {trainer.state.global_step} of {trainer.state.max_steps}. {GO_ON}", flush=True)
    # The first that ends may take the others with it, before all is saved. And what went between processes last is let
    # go of by a thread of gloo: if Python closes down meanwhile, the process aborts, and a finished run looks failed.
    trainer.accelerator.wait_for_everyone()
    if watcher.stopping:
        sys.exit(128 + watcher.stopping)


def _is_written(trainer: Trainer) -> bool:
    """Is the end of the run written down already? That holds the closing lines of the log; its checkpoint does not."""
    folder = Path(trainer.args.output_dir)
    if not trainer.is_world_process_zero() or not is_whole(folder):  # the others would read what is being written
        return False
    state = json.loads((folder / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    return state["global_step"] == trainer.state.global_step
