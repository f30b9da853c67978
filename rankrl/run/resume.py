"""Which checkpoint a run goes on from, and whether the two belong together."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from rankrl.run.checkpoints import checkpoint_folders, is_whole, newest_checkpoint
from rankrl.run.manifest import MANIFEST, file_hash

logger = logging.getLogger(__name__)


def checkpoint_to_resume(training_args: Any, model: str | None, dialogues: str) -> str | None:
    """`--resume_from_checkpoint latest` goes on from the newest whole checkpoint of the output directory, if any.

    A checkpoint whose writing was cut short is passed over (`is_whole`). It goes on with the learning rate that it was
    written with, which is put into `training_args` if they name another.

    Args:
        training_args: of the run; `output_dir` is its folder.
        model: what the run starts from.
        dialogues: what it trains on. Others than before are warned of.

    Raises:
        FileNotFoundError: if another one is named that is not there, or was cut short.
        FileExistsError, NotADirectoryError: if the run is new and its folder holds another, or is none.
        ValueError: if the checkpoint is of a run that started from another model.
    """
    wanted, folder = training_args.resume_from_checkpoint, Path(training_args.output_dir)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"output_dir is {folder}, a file; expected a folder.")
    if wanted is None:
        _refuse_used(folder)
        return None
    checkpoint = _named_checkpoint(wanted, folder)
    if checkpoint is not None:
        _compare_with_before(checkpoint, training_args, model, dialogues)
    return checkpoint


def _refuse_used(folder: Path) -> None:
    if checkpoint_folders(folder) or is_whole(folder):
        raise FileExistsError(
            f"{folder} holds a run already, and what is left of it would be taken for this one's. Go on with it "
            "(resume_from_checkpoint: latest), name another folder (output_dir), or delete this one."
        )


def _compare_with_before(checkpoint: str, training_args: Any, model: str | None, dialogues: str) -> None:
    """A checkpoint says little of what its run was; the manifest beside it says all."""
    file = Path(checkpoint).resolve().parent / MANIFEST
    if not file.is_file():
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    settings = before["config"]
    started = settings.get("ModelConfig", {}).get("model_name_or_path")
    if started and model and not _is_same_place(started, model):
        raise ValueError(
            f"{checkpoint} is of a run that started from {started}, and model_name_or_path is {model}: what it has "
            "learned does not belong to that one. Name the model that it started from, or another output_dir."
        )
    hashes = set(before["data"].values())
    if hashes and file_hash(dialogues) not in hashes:
        logger.warning("%s are other dialogues than %s was trained on so far", dialogues, checkpoint)
    rate = settings.get(type(training_args).__name__, {}).get("learning_rate", training_args.learning_rate)
    if rate != training_args.learning_rate:
        logger.warning(
            "learning_rate is %g, but %s goes on with its own, %g", training_args.learning_rate, checkpoint, rate
        )
        training_args.learning_rate = rate


def _is_same_place(one: str, other: str) -> bool:
    return one == other or Path(one).resolve() == Path(other).resolve()


def _named_checkpoint(wanted: str, folder: Path) -> str | None:
    newest = newest_checkpoint(folder)
    if wanted == "latest":
        return str(newest) if newest else None
    if not is_whole(Path(wanted)):
        instead = f"the newest that can be gone on from is {newest}" if newest else f"there is none in {folder}"
        raise FileNotFoundError(
            f"resume_from_checkpoint is {wanted}, which is no checkpoint, or was not written to its end; {instead}. "
            "`latest` finds it by itself, and begins anew where there is none."
        )
    return wanted
