"""A training of two processes that can be made to fail: `slope.py FOLDER [--die AT_STEP] [--slow SECONDS]`."""

from __future__ import annotations

import argparse
import os
import signal
import time
from typing import Any

from transformers import Trainer, TrainerCallback, TrainingArguments

from rankrl.run.checkpoints import newest_checkpoint
from rankrl.run.errors import explain_errors
from rankrl.run.interrupt import train
from tests.run.conftest import ROWS, Slope


class Disturb(TrainerCallback):
    """Kills the second process when a step begins, and takes its time for steps, after it has said that one is done."""

    def __init__(self, die: int | None, slow: float) -> None:
        self.die = die
        self.slow = slow

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.process_index == 1 and state.global_step == self.die:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.slow and args.process_index == 0:
            print(f"step {state.global_step}", flush=True)
        time.sleep(self.slow)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--die", type=int)
    parser.add_argument("--slow", type=float, default=0.0)
    options = parser.parse_args()
    args = TrainingArguments(
        options.folder,
        max_steps=8,
        per_device_train_batch_size=1,
        learning_rate=0.1,
        save_steps=2,
        save_total_limit=1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        ddp_backend="gloo",
    )
    trainer = Trainer(Slope(), args, train_dataset=ROWS, callbacks=[Disturb(options.die, options.slow)])
    newest = newest_checkpoint(options.folder)
    train(trainer, str(newest) if newest else None)


if __name__ == "__main__":
    explain_errors()
    main()
