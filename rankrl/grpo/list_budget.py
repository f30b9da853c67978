"""`max_lists`: training ends when a number of lists was sampled, so that ways to train are compared at equal cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy


class ListBudget(TrainerCallback):
    """Ends training, as `max_steps` does, once the lists of a budget were sampled and trained on.

    Args:
        is_spent: has the budget been sampled, and does the next optimizer step need new lists? Alike on every process.
    """

    def __init__(self, is_spent: Callable[[], bool]) -> None:
        self.is_spent = is_spent

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A run that is resumed at its end is to do nothing more; transformers takes one step before it looks.

        `rankrl.run.interrupt.train`, which the recipes use, keeps it from that one.
        """
        control.should_training_stop |= self.is_spent()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.is_spent():
            control.should_training_stop = True
            control.should_save |= args.save_strategy != SaveStrategy.NO


def updates_are_made(micro_batches: int, a_generation: int, a_step: int) -> bool:
    """Does the next optimizer step begin with new lists, or run into them?

    Args:
        micro_batches: how many were trained on so far.
        a_generation: how many are made of the lists of one generation, each update counted.
        a_step: how many an optimizer step takes.

    Example:
        >>> [updates_are_made(n, a_generation=4, a_step=2) for n in (2, 4, 6)]
        [False, True, False]
    """
    return -micro_batches % a_generation < a_step
