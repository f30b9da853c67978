"""The KL reference is the policy at the start of RL, whatever engine spreads the two over processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.distributed.tensor import DTensor


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
