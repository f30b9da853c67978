"""Which checkpoints stay on disk: the best, the newest and every n-th; how much room they need, where to find them."""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import get_model_param_count

logger = logging.getLogger(__name__)

BEST = "best"


class KeepCheckpoints(TrainerCallback):
    """Deletes checkpoints that nobody needs, and keeps `RUN/best` pointing at the best one.

    Takes over from transformers, which knows no "every n-th". The best is the one of `state.best_global_step`; step 0
    is the model that the run started from. A checkpoint that was not written to its end is left alone.

    Args:
        start: the model that the run started from: a directory, or a name on the Hub.
        newest: how many of the newest to keep; None: delete nothing.
        keep_every: keep those whose step is a multiple of this, too.
        validate_steps: how often a new best may be found, which is saved whatever its step; None: never.
    """

    def __init__(
        self, start: str, newest: int | None, keep_every: int | None = None, validate_steps: int | None = None
    ) -> None:
        self.start = start
        self.newest = newest
        self.keep_every = keep_every
        self.validate_steps = validate_steps

    @classmethod
    def install(
        cls, trainer: Trainer, start: str, keep_every: int | None = None, validate_steps: int | None = None
    ) -> None:
        """Take over the trainer's `save_total_limit`.

        Raises:
            ValueError: if there is something else in the place of `RUN/best`, or `keep_every` without a limit.
        """
        newest, trainer.args.save_total_limit = trainer.args.save_total_limit, None
        if keep_every is not None and newest is None:
            raise ValueError(
                f"keep_every is {keep_every}, but without save_total_limit every checkpoint stays anyhow. Say how many "
                "of the newest to keep (save_total_limit: 1), or leave keep_every out."
            )
        place = Path(trainer.args.output_dir) / BEST
        if place.exists() and not place.is_symlink():
            raise ValueError(f"{place} is in the way of the link to the best checkpoint. Move it, and start again.")
        trainer.add_callback(cls(start, newest, keep_every, validate_steps))

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if self.keep_every and args.save_strategy == "steps" and self.keep_every % state.save_steps:
            raise ValueError(
                f"keep_every is {self.keep_every}, but checkpoints are written every {state.save_steps} steps "
                "(save_steps): make it a multiple of that."
            )
        if args.should_save:
            self._link_best(args, state)
            resumable = not args.save_only_model
            moves = resumable and getattr(args, "sync_ref_model", False)
            size = checkpoint_size(model, optimizer=resumable, reference=moves)
            self._tell_room(args, state, size)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not args.should_save:
            return
        self._link_best(args, state)
        checkpoints = whole_checkpoints(args.output_dir)
        kept = set(checkpoints if self.newest is None else checkpoints[-self.newest :])
        kept |= {step for step in checkpoints if self.keep_every and step % self.keep_every == 0}
        kept |= {state.global_step, state.best_global_step}
        for step in checkpoints:
            if step not in kept:
                shutil.rmtree(_folder(args.output_dir, step))

    def _link_best(self, args: Any, state: Any) -> None:
        """Point `RUN/best` at the best checkpoint; what an earlier run in the same place left there goes."""
        link, target = Path(args.output_dir) / BEST, None
        if state.best_global_step:
            target = _folder(args.output_dir, state.best_global_step)
        elif state.best_global_step == 0:
            target = Path(self.start).resolve()
        if target is None or not target.is_dir():
            link.unlink(missing_ok=True)
            return
        fresh = link.with_name(f".{BEST}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target if state.best_global_step == 0 else target.name)
        fresh.replace(link)  # in one go: a reader finds the old one or the new one

    def _tell_room(self, args: Any, state: Any, size: int) -> None:
        most = self._most_at_once(args, state)
        free = shutil.disk_usage(args.output_dir).free
        told = "checkpoints: about %s each, at most %d at a time, %s together; %s free in %s"
        values = (_bytes(size), most, _bytes(size * most), _bytes(free), args.output_dir)
        if size * most <= free:
            logger.info(told, *values)
        else:
            logger.warning(
                told + ". Lower save_total_limit, raise keep_every, or set save_only_model (such a checkpoint cannot "
                "be resumed from), before the disk is full.",
                *values,
            )

    def _most_at_once(self, args: Any, state: Any) -> int:
        """How many checkpoints lie on disk at a time, at most; one more while the next is being written."""
        every = {"no": 0.0, "steps": state.save_steps, "epoch": state.max_steps / state.num_train_epochs}
        saved = _steps(every[args.save_strategy], state.max_steps) | _steps(self.validate_steps or 0, state.max_steps)
        if self.newest is None:
            return len(saved)
        multiples = state.max_steps // self.keep_every if self.keep_every else 0
        best, next_one = self.validate_steps is not None, 1
        return min(len(saved), self.newest + multiples + best + next_one)


def _steps(every: float, last: int) -> set[int]:
    """The steps that are a multiple of a number, and the last; none for 0."""
    if not every:
        return set()
    return {min(math.ceil(round(every * n, 6)), last) for n in range(1, math.ceil(last / every) + 1)}


def is_whole(checkpoint: Path) -> bool:
    """Was it written to its end? The trainer's state comes last, and a full disk may leave the first half of it."""
    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def checkpoint_folders(output_dir: str | Path) -> list[Path]:
    """All checkpoints of a run, whole or not, by their steps; a person's `checkpoint-old` is none."""
    named = [path for path in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(named, key=_step)


def whole_checkpoints(output_dir: str | Path) -> list[int]:
    """The steps of the checkpoints that were written to their end, in the order in which they were."""
    whole = [path for path in checkpoint_folders(output_dir) if is_whole(path)]
    written = {_step(path): (path / TRAINER_STATE_NAME).stat().st_mtime_ns for path in whole}
    return sorted(written, key=lambda step: (written[step], step))


def newest_checkpoint(output_dir: str | Path) -> Path | None:
    """The one that a run goes on from: of the checkpoints that were written to their end, that of the last step."""
    for path in reversed(checkpoint_folders(output_dir)):
        if is_whole(path):
            return path
        logger.warning("%s was not written to its end: passed over", path)
    return None


def checkpoint_size(model: torch.nn.Module, *, optimizer: bool = True, reference: bool = False) -> int:
    """Bytes of a checkpoint, about: the weights that are saved, and two numbers for each that is trained (Adam).

    With a reference that moves (`sync_ref_model`), its weights too.
    """
    width = next(p.element_size() for p in model.parameters() if p.requires_grad)
    trained = get_model_param_count(model, trainable_only=True)
    saved = trained if isinstance(model, PeftModel) else get_model_param_count(model)
    return width * (saved + 2 * trained * optimizer + saved * reference)


def where_to_find(args: Any, state: Any, start: str) -> str:
    """Where a finished run has left its last and its best weights."""
    last = f"the last weights (step {state.global_step}) are in {args.output_dir}"
    if state.best_global_step is None:
        return last
    link = Path(args.output_dir) / BEST
    if state.best_global_step == 0:
        place = f", {link}" if link.is_dir() else ""
        return f"{last}; none was surely better on validation than the start ({start}{place})"
    return f"{last}, the best on validation (step {state.best_global_step}) in {link}"


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _folder(output_dir: str | Path, step: int) -> Path:
    return Path(output_dir) / f"checkpoint-{step}"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
