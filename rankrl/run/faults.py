"""What a training cannot help: memory runs out, a disk fills up, another process is lost. Said with what is left."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import distributed

from rankrl.grpo.out_of_memory import explain_out_of_memory, first_line
from rankrl.run.checkpoints import BEST, checkpoint_folders, is_whole, newest_checkpoint

GO_ON = "The same command with --resume_from_checkpoint latest goes on from there."

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# What safetensors (in Rust) and torch.save (in C++) make of these.
_FULL_TEXTS = (*(f"(os error {number})" for number in _FULL), "PytorchStreamWriter failed writing", "iostream error")
# What gloo, NCCL and torch's store say when the other end is gone, and when it is silent for too long.
_LOST = re.compile(
    "closed by peer|reset by peer|Broken pipe|Connection refused|Connection was likely closed|ncclRemoteError"
)
_LATE = re.compile("timed out|timeout", re.IGNORECASE)


class ProcessLostError(ConnectionError):
    """Another process of this launch has ended, and the launcher is about to end this one."""


@contextmanager
def explain_faults(args: Any) -> Iterator[None]:
    """Say of what ends a training what is left and how to go on; everything else passes as it is.

    Args:
        args: settings of the training.

    Raises:
        torch.OutOfMemoryError: naming the phase, and what to lower there.
        OSError: for a full disk.
        ProcessLostError: if another process has ended. Which one and why, torch's launcher reports.
        TimeoutError: if another process was waited for too long.
    """
    try:
        with explain_out_of_memory("step", args):
            yield
    except Exception as error:
        if is_disk_full(error):
            raise OSError(_disk_full(args, error)) from error
        if is_process_lost(error):
            raise ProcessLostError(_process_lost(args, error)) from error
        if is_process_late(error):
            raise TimeoutError(_process_late(args, error)) from error
        raise


def is_disk_full(error: BaseException | None) -> bool:
    """Is this, or what it came from, a file that could not be written for lack of room (disk, quota, file size)?"""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(text in str(error) for text in _FULL_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_process_lost(error: BaseException) -> bool:
    """Did an exchange between processes fail because one of them is gone?"""
    return _is_exchange(error) and bool(_LOST.search(str(error)))


def is_process_late(error: BaseException) -> bool:
    """Did an exchange between processes fail because one of them was waited for too long?"""
    return _is_exchange(error) and not is_process_lost(error) and bool(_LATE.search(str(error)))


def _is_exchange(error: BaseException) -> bool:
    """gloo raises a plain RuntimeError that names its source file; NCCL's errors and the store's have a type."""
    if not distributed.is_initialized():
        return False
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    )


def _disk_full(args: Any, error: Exception) -> str:
    torn = [path.name for path in checkpoint_folders(args.output_dir) if not is_whole(path)]
    delete = f" {', '.join(torn)} was not written to its end: delete it." if torn else ""
    return (
        f"there is no room left to write in {args.output_dir}: {first_line(error)}.{delete} Make room, "
        "or keep fewer checkpoints (save_total_limit, keep_every) or smaller ones (an adapter: use_peft; weights "
        f"alone, which cannot be gone on from: save_only_model). {_what_is_left(args)}"
    )


def _process_lost(args: Any, error: Exception) -> str:
    return (
        "another process of this launch has ended, and this one cannot go on alone. The launcher reports which one was "
        "first and how it ended; signal 9 is the system's where its memory ran out, or a person's or a scheduler's. "
        f"{_what_is_left(args)} The exchange said: {first_line(error)}"
    )


def _process_late(args: Any, error: Exception) -> str:
    return (
        "another process of this launch was waited for too long. It hangs, or it does alone what takes longer than "
        f"ddp_timeout allows ({args.ddp_timeout} s): raise that, or look at what the slow one does (py-spy dump). "
        f"{_what_is_left(args)} The exchange said: {first_line(error)}"
    )


def _what_is_left(args: Any) -> str:
    newest = newest_checkpoint(args.output_dir)
    if newest is None:
        return f"There is no checkpoint in {args.output_dir} yet: the same command begins anew (save_steps: sooner)."
    best = Path(args.output_dir) / BEST
    kept = f", and the best in {best.resolve()}" if best.is_dir() else ""
    return f"The newest checkpoint is {newest}{kept}. {GO_ON}"
