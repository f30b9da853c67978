"""`RankedRewards`: TRL wants one float a list; what a reward function says of each rank is kept here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from inspect import iscoroutinefunction
from typing import Any

import numpy as np
import torch

from rankrl.rewards import RankReward, RankScores


class RankedRewards:
    """Wraps a reward function so that what it says of each rank is kept, while TRL gets one float a list.

    That float is what a list is worth where whole lists are compared. `RankReward` says it; of a subclass that changes
    its rewards it is the first return where that counts later hits too (at the first rank it is the DCG), and else the
    sum over ranks, as for any other function. Such a one may return one float a list instead, and choose.

    Args:
        function: returns, for each completion, K floats, one float, or `None` (no score).
        num_ranks: K.

    Attributes:
        values: `(B, K)` float64 of the last call, NaN rows for `None`; `None` if the function returned one float each.
        scores: what a `RankReward` saw in the last call; `None` for other functions.
    """

    def __init__(self, function: Callable[..., Any], num_ranks: int) -> None:
        self.function = function
        self.num_ranks = num_ranks
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        if isinstance(function, RankReward) and function.num_ranks != num_ranks:
            raise ValueError(
                f"the reward {self.__name__!r} looks at num_ranks = {function.num_ranks} ranks, and the trainer has "
                f"num_ranks = {num_ranks}: give both the same."
            )
        self.values: np.ndarray | None = None
        self.scores: RankScores | None = None

    def __call__(self, **columns: Any) -> list[float | None]:
        rewards = list(self.function(**columns))
        if len(rewards) != len(columns["completions"]):
            raise ValueError(
                f"reward function {self.__name__!r} returned {len(rewards)} rewards for {len(columns['completions'])} "
                "completions; return one entry (K floats, one float, or None) for each."
            )
        self.scores = getattr(self.function, "last_scores", None)
        if all(reward is None or np.ndim(reward) == 0 for reward in rewards):
            self.values = None
            self._refuse_nan([[r] for r in rewards if r is not None])
            return rewards
        rows = [np.full(self.num_ranks, np.nan) if r is None else np.asarray(r, dtype=np.float64) for r in rewards]
        for row, reward in zip(rows, rewards, strict=True):
            if row.shape != (self.num_ranks,):
                raise ValueError(
                    f"reward function {self.__name__!r} returned {np.size(reward)} values for a completion; expected "
                    f"num_ranks = {self.num_ranks}, one for each rank (or one float for the whole list). Give the "
                    "reward and the trainer the same num_ranks."
                )
        self._refuse_nan([row for row, reward in zip(rows, rewards, strict=True) if reward is not None])
        self.values = np.stack(rows)
        totals = self._worth(self.values)
        return [None if r is None else float(total) for total, r in zip(totals, rewards, strict=True)]

    def _worth(self, values: np.ndarray) -> np.ndarray:
        reward = self.function
        if not isinstance(reward, RankReward):
            return values.sum(1)
        if type(reward).__call__ is RankReward.__call__ and self.scores:
            return self.scores.list_returns
        # A return that looks ahead counts a late hit at all ranks before it: their sum would prefer late hits.
        looks_ahead = reward.kind == "log" or np.isfinite(reward.gamma)
        return values[:, 0] if looks_ahead else values.sum(1)

    def _refuse_nan(self, rows: list) -> None:
        if rows and not np.isfinite(np.asarray(rows, dtype=np.float64)).all():
            raise ValueError(
                f"reward function {self.__name__!r} returned NaN or infinity. Return None for a completion that cannot "
                "be scored; a NaN would silently remove its group from training."
            )


def keep_what_is_said_of_ranks(functions: Any, num_ranks: int) -> list[Any]:
    """One reward function or several as TRL takes them, each that is called with texts wrapped in `RankedRewards`.

    Reward models (by name or as modules) are TRL's to run; they give one float a list.

    Raises:
        ValueError: for an asynchronous function, or a `RankReward` with another K.
    """
    functions = functions if isinstance(functions, list) else [functions]
    for function in functions:
        if iscoroutinefunction(function) or iscoroutinefunction(getattr(type(function), "__call__")):  # noqa: B004, B009
            raise ValueError(
                f"the reward function {getattr(function, '__name__', function)!r} is asynchronous, and what it says of "
                "ranks is read when it is called. Give a plain function, which may run its coroutines by asyncio.run."
            )
    kept = [f if isinstance(f, str | torch.nn.Module) else RankedRewards(f, num_ranks) for f in functions]
    _tell_apart([function for function in kept if isinstance(function, RankedRewards)])
    return kept


def _tell_apart(functions: Sequence[RankedRewards]) -> None:
    """Number functions of one name: TRL logs them by name, and would log their mean."""
    named = Counter(function.__name__ for function in functions)
    numbers = Counter[str]()
    for function in functions:
        if named[name := function.__name__] > 1:
            numbers[name] += 1
            function.__name__ = f"{name}_{numbers[name]}"


def rewards_by_rank(functions: Sequence[Any], num_lists: int, num_ranks: int) -> np.ndarray:
    """What `F` reward functions said of each rank in their last call: `(B, K, F)` float64, NaN where they did not."""
    rewards = np.full((num_lists, num_ranks, len(functions)), np.nan)
    for i, function in enumerate(functions):
        if isinstance(function, RankedRewards) and function.values is not None:
            rewards[:, :, i] = function.values
    return rewards
