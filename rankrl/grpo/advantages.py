"""Advantages in pure torch: each list is compared with the other lists of its prompt, rank by rank or as a whole.

`P` prompts, `G` lists each, `B = P G` lists of `K` ranks, `F` reward functions. Where whole lists are compared, what is
`(B, K)` below is `(B, 1)`. NaN marks what was not scored.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALES = ("group", "batch", "none")
_SAME = 1e-8  # returns that are no farther apart are equal
_STD_FLOOR = 1e-4  # as in TRL and in the released code, so that a cell without spread gets advantage 0, not 0/0


def rank_advantages(returns: Tensor, num_generations: int, scale: str = "group") -> Tensor:
    """Compare each list with the other lists of its prompt, rank by rank (eq. 8).

    Args:
        returns: `(B, K)` float; the `num_generations` lists of one prompt stand together. NaN marks a list without a
            score: it is left out of the mean and the spread, and its advantage is 0.
        num_generations: G, lists per prompt.
        scale: what the centred return is divided by: `"group"`, the sample standard deviation of the (prompt, rank)
            cell; `"batch"`, that of all returns of the batch; `"none"`, nothing. 1e-4 is added to every deviation.

    Returns:
        `(B, K)` advantages in units of the chosen deviation.

    Raises:
        ValueError: if `num_generations` is below 2 or does not divide B, or `scale` is unknown.
    """
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; expected one of {', '.join(map(repr, SCALES))}.")
    if num_generations < 2:
        raise ValueError(f"num_generations is {num_generations}; a list is compared with at least one other.")
    returns = returns if returns.is_floating_point() else returns.float()
    batch, num_ranks = returns.shape
    if batch % num_generations:
        raise ValueError(
            f"{batch} lists cannot be split into groups of {num_generations}: every prompt needs num_generations lists."
        )
    groups = returns.view(-1, num_generations, num_ranks)
    centred = groups - groups.nanmean(1, keepdim=True)
    if scale == "group":
        centred = centred / (_sample_std(groups, 1) + _STD_FLOOR)
    elif scale == "batch":
        centred = centred / (_sample_std(returns.reshape(-1, 1), 0) + _STD_FLOOR)
    return centred.nan_to_num(nan=0.0).view(batch, num_ranks)


def weighted_sum(rewards: Tensor, weights: Tensor) -> Tensor:
    """Sum over reward functions, `(..., F)` -> `(...)`; NaN where no function gave a score, as in TRL."""
    return (rewards * weights).nansum(-1).masked_fill(rewards.isnan().all(-1), torch.nan)


def decoupled_advantages(rewards: Tensor, weights: Tensor, num_generations: int) -> Tensor:
    """Let several reward functions weigh what their weights say, whatever their spread (GDPO, arXiv 2601.05242).

    Each function's returns are brought to unit deviation within each (prompt, rank) cell, weighted and summed; the sums
    are then centred and brought to unit deviation once, over all lists and ranks of the batch. By rank this is the
    advantage of SafeCRS; of whole lists, TRL's `multi_objective_aggregation="normalize_then_sum"`.

    Args:
        rewards: `(B, K, F)` float; the lists of one prompt stand together. NaN where a function gave no score: it is
            left out of the sum, and a list without any score is left out altogether.
        weights: `(F,)`.
        num_generations: G, lists per prompt.

    Returns:
        `(B, K)` advantages, 0 for a list without score.

    Raises:
        ValueError: as `rank_advantages`.

    Example:
        >>> rewards = torch.tensor([[[0.0, 0.0]], [[1.0, 100.0]]])  # two lists of one rank, two functions
        >>> decoupled_advantages(rewards, torch.tensor([1.0, 1.0]), 2).T
        tensor([[-0.7070,  0.7070]])
    """
    batch, num_ranks, num_functions = rewards.shape
    each = rank_advantages(rewards.flatten(1), num_generations).view(batch, num_ranks, num_functions)
    total = weighted_sum(each.masked_fill(rewards.isnan(), torch.nan), weights)
    spread = _sample_std(total.reshape(-1, 1), 0)
    return ((total - total.nanmean()) / (spread + _STD_FLOOR)).nan_to_num(nan=0.0)


def informative_cells(returns: Tensor, num_generations: int) -> Tensor:
    """Say which (prompt, rank) cells hold lists that differ: the others carry no signal.

    Args:
        returns: `(P G, K)` float; the lists of one prompt stand together. NaN, a list without score, does not count.
        num_generations: G, lists per prompt.

    Returns:
        `(P, K)` bool.
    """
    cells = returns.view(-1, num_generations, returns.shape[1])
    return cells.nan_to_num(nan=-torch.inf).amax(1) - cells.nan_to_num(nan=torch.inf).amin(1) > _SAME


def _sample_std(values: Tensor, dim: int) -> Tensor:
    """Standard deviation over the values that are not NaN, with n - 1; 0 for a single value."""
    count = (~values.isnan()).sum(dim, keepdim=True)
    squares = (values - values.nanmean(dim, keepdim=True)).square().nansum(dim, keepdim=True)
    return (squares / (count - 1).clamp(min=1)).sqrt()
