"""The KL reference is the policy at the start of RL, whatever engine spreads the two over processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn
from torch.distributed.tensor import DTensor

_FILE = "rank_grpo_reference.pt"


def save_reference(reference: nn.Module, checkpoint: Path) -> None:
    """Keep a reference that follows the policy (`sync_ref_model`) in the checkpoint's folder, by the first process.

    One that is spread over processes is not kept, and `load_reference` says so.
    """
    if PartialState().is_main_process and not _is_spread(reference):
        checkpoint.mkdir(parents=True, exist_ok=True)
        torch.save(reference.state_dict(), checkpoint / _FILE)


def load_reference(reference: nn.Module, checkpoint: Path) -> None:
    """Go on with the reference that `save_reference` kept.

    Raises:
        ValueError: if there is none, or this run spreads its own: its KL would be to the start of the run again.
    """
    path = checkpoint / _FILE
    if _is_spread(reference) or not path.is_file():
        raise ValueError(
            f"sync_ref_model lets the KL reference follow the policy, but {checkpoint} does not hold it, or this run "
            "spreads it over processes (ZeRO-3, FSDP2), where it is not kept: the KL would be to the start of the run "
            "again. Start a new run from the weights (`model_name_or_path`), or train with DDP or ZeRO-2."
        )
    reference.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


def _is_spread(model: nn.Module) -> bool:
    return any(isinstance(weight, DTensor) or hasattr(weight, "ds_id") for weight in model.parameters())


def require_same_weights(
    policy: nn.Module, reference: nn.Module, gather: Callable[[list[nn.Parameter]], AbstractContextManager[None]]
) -> None:
    """Compare a policy before its first step with the reference, in the numbers that the reference is kept in.

    Every process has to call it: weights that are spread are gathered, one at a time.

    Args:
        policy: the model that will be trained.
        reference: the model that TRL has loaded anew from the policy's path; FSDP2 may have spread it.
        gather: makes parameters that ZeRO-3 has spread whole for a while.

    Raises:
        ValueError: naming the first parameter in which the two differ.
    """
    trained = dict(policy.named_parameters())
    for name, parameter in reference.named_parameters():
        with gather([trained[name], parameter]), torch.no_grad():
            whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
            same = torch.equal(trained[name].to(whole), whole)
        if not same:
            raise ValueError(
                f"the KL reference, loaded from {policy.config._name_or_path!r}, differs from the policy in "  # type: ignore[union-attr]
                f"{name}: the model was changed after it was loaded. Save it, and pass the saved directory."
            )
