"""Returns: what rank k is rewarded with, given the relevance of the ranks from k on."""

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

ReturnKind = Literal["exp", "log"]


def rank_returns(relevance: ArrayLike, kind: ReturnKind = "exp", gamma: float = math.inf) -> NDArray[np.float64]:
    """Return what each rank is rewarded with.

    A rank can influence only itself and the ranks after it, so its return leaves out what came before. With ranks
    counted from 1:

    - `"log"`: DCG@k:K, the sum over j >= k of rel_j / log2(j + 1);
    - `"exp"`: the sum over j >= k of rel_j / gamma^(j - k), which is rel_k + r_(k+1) / gamma. With gamma = inf (the
      paper's best) a rank is rewarded with its own relevance alone.

    Args:
        relevance: `(B, K)` gains, as from `relevance`.
        kind: `"exp"` or `"log"`.
        gamma: discount of `"exp"`, above 1; not used by `"log"`.

    Returns:
        `(B, K)` float64.

    Raises:
        ValueError: if the shape, the kind or gamma is not one of the above, or a gain is NaN.

    Example:
        >>> rank_returns([[0.0, 1.0, 1.0]], "exp", gamma=2.0)
        array([[0.75, 1.5 , 1.  ]])

    Source: arXiv 2510.20150, the `log` and `exp_Γ` families of rank-level returns.
    """
    check_return(kind, gamma)
    gains = np.asarray(relevance, dtype=np.float64)
    if gains.ndim != 2:
        raise ValueError(f"relevance must be a (B, K) array, got shape {gains.shape}.")
    if np.isnan(gains).any():
        row, rank = np.argwhere(np.isnan(gains))[0]
        raise ValueError(
            f"relevance is NaN in row {row} at rank {rank + 1}; expected a gain, 0 for what earns nothing."
        )
    return _dcg_from_rank(gains) if kind == "log" else _discounted(gains, gamma)


def list_returns(relevance: ArrayLike, kind: ReturnKind = "exp") -> NDArray[np.float64]:
    """Return what each list is worth as a whole, for training that compares lists and not ranks.

    `"log"`: its DCG, the return of rank 1, so that early hits count more. `"exp"`: the sum of its gains, whatever their
    order. Neither is the sum of the returns of its ranks: there a late hit counts at all ranks before it, and so more
    than an early one.

    Args:
        relevance: `(B, K)` gains, as from `relevance`.
        kind: `"exp"` or `"log"`.

    Returns:
        `(B,)` float64.

    Raises:
        ValueError: as `rank_returns`.

    Example:
        >>> list_returns([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], "log")
        array([1. , 0.5])
    """
    returns = rank_returns(relevance, kind)  # of "exp" with gamma = inf: the gains themselves
    return returns[:, 0] if kind == "log" else returns.sum(1)


def check_return(kind: str, gamma: float) -> None:
    """Raise a ValueError unless `kind` and `gamma` name a family of returns."""
    if kind not in get_args(ReturnKind):
        raise ValueError(f"kind is {kind!r}; expected 'exp' (rel_k + r_(k+1) / gamma) or 'log' (DCG from rank k on).")
    if kind == "exp" and not gamma > 1:
        raise ValueError(
            f"gamma is {gamma}; it divides the return of the next rank, so it must be above 1. "
            "Use math.inf to reward every rank with its own item alone."
        )


def _dcg_from_rank(gains: NDArray[np.float64]) -> NDArray[np.float64]:
    discounted = gains / np.log2(np.arange(2, gains.shape[1] + 2))
    return np.ascontiguousarray(np.cumsum(discounted[:, ::-1], axis=1)[:, ::-1])  # torch takes no backward strides


def _discounted(gains: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    returns = gains.copy()
    for rank in range(gains.shape[1] - 2, -1, -1):
        returns[:, rank] += returns[:, rank + 1] / gamma
    return returns
