"""What a checkpoint holds beside what TRL saves, so that a run goes on exactly where it stopped: a file a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import send_to_device

_FILE = "rank_grpo_state_{process}.pt"


def save_state(state: dict[str, Any], checkpoint: Path, process: int) -> None:
    """Write numbers and tensors of one process into the checkpoint's folder, which need not be there yet.

    Waits for the other processes, so that nothing is added to a checkpoint that one of them could not write to.
    """
    checkpoint.mkdir(parents=True, exist_ok=True)
    torch.save(state, checkpoint / _FILE.format(process=process))
    PartialState().wait_for_everyone()


def load_state(checkpoint: Path, process: int, device: torch.device) -> dict[str, Any]:
    """What `save_state` wrote, with the tensors on `device`.

    Raises:
        FileNotFoundError: if the checkpoint holds nothing of this process.
    """
    path = checkpoint / _FILE.format(process=process)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing, so the run cannot go on where it stopped: the checkpoint was written by another "
            "trainer, with save_only_model=True, or by another number of processes. Start a new run from its "
            "weights (`model_name_or_path`) instead of resuming it."
        )
    saved = torch.load(path, map_location="cpu", weights_only=True)  # it does not know `cpu:0`, one of several
    return send_to_device(saved, device)
