"""What a checkpoint holds beside what TRL saves, so that a run goes on exactly where it stopped: a file a process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import send_to_device
from torch.utils.data import Sampler

_FILE = "rank_grpo_state_{process}.pt"
_CUT = (
    *("per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation"),
    *("num_iterations", "num_generations"),
)
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


def cut_of(args: Any) -> dict[str, int]:
    """The settings of a GRPO trainer that say how lists are cut into micro-batches, steps and generations."""
    return {name: getattr(args, name) for name in _CUT}


def micro_batches_done(state: Mapping[str, Any], args: Any) -> int:
    """How many micro-batches a run has trained on, counted in its own cut of the batch.

    A run may go on with smaller micro-batches and more of them to a step, as is advised where memory runs out, but not
    in the middle of a generation: what is left of its lists is cut in the old way.

    Args:
        state: of the checkpoint, with `step` and `cut`.
        args: of the run.

    Raises:
        ValueError: if lists are left that are cut in another way, or a step or a generation took another number.
    """
    old, new = state["cut"], cut_of(args)
    if old == new:
        return state["step"]
    left = state["step"] % (old["steps_per_generation"] * old["num_iterations"])
    if left or _lists_taken(old) != _lists_taken(new):
        changed = ", ".join(f"{name} was {old[name]} and is {new[name]}" for name in _CUT if old[name] != new[name])
        why = "other lists would make a step" if not left else "lists that were sampled are still to be trained on"
        raise ValueError(f"{changed}: the run cannot go on so, because {why}. Set what it was, or {_INSTEAD}")
    return state["step"] * new["gradient_accumulation_steps"] // old["gradient_accumulation_steps"]


def _lists_taken(cut: Mapping[str, int]) -> tuple[int, ...]:
    """By a step and by a generation of one process, how often each is used, and how many there are of a prompt."""
    size = cut["per_device_train_batch_size"]
    step, generation = size * cut["gradient_accumulation_steps"], size * cut["steps_per_generation"]
    return step, generation, cut["num_iterations"], cut["num_generations"]


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


class EpochSampler(Sampler[int]):
    """A shuffling sampler whose order is a function of seed and epoch, so that a resumed run walks the same way.

    Args:
        sampler: TRL's, with its `generator`, `shuffle` and `seed`.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.sampler.shuffle:
            self.sampler.generator.manual_seed((self.sampler.seed or 0) + self.epoch)
        return iter(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)
