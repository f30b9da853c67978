"""What a checkpoint holds beside what TRL saves, so that a run goes on exactly where it stopped: a file a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import send_to_device

_FILE = "rank_grpo_state_{process}.pt"
_INSTEAD = "start a new run from its weights (`model_name_or_path`) instead of resuming it."


def save_state(state: dict[str, Any], checkpoint: Path) -> None:
    """Write numbers and tensors of this process into the checkpoint's folder, which need not be there yet.

    Waits for the other processes, so that nothing is added to a checkpoint that one of them could not write to.
    """
    processes = PartialState()
    checkpoint.mkdir(parents=True, exist_ok=True)
    state = {**state, "num_processes": processes.num_processes}
    torch.save(state, checkpoint / _FILE.format(process=processes.process_index))
    processes.wait_for_everyone()


def load_state(checkpoint: Path, device: torch.device) -> dict[str, Any]:
    """What `save_state` wrote, with the tensors on `device`.

    Raises:
        FileNotFoundError: if the checkpoint holds nothing of this process.
        ValueError: if another number of processes wrote it: each holds a part of the lists.
    """
    processes = PartialState()
    path = checkpoint / _FILE.format(process=processes.process_index)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing, so the run cannot go on where it stopped: the checkpoint was written by another "
            f"trainer, with save_only_model=True, or by another number of processes: {_INSTEAD}"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)  # it does not know `cpu:0`, one of several
    if state["num_processes"] != processes.num_processes:
        raise ValueError(
            f"{checkpoint} was written by {state['num_processes']} processes, and this run has "
            f"{processes.num_processes}: launch as many as before, or {_INSTEAD}"
        )
    return send_to_device(state, device)
