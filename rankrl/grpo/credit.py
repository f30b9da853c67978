"""What a step of `RankGRPOTrainer` hands on: lists -> returns -> advantages, and tokens -> loss.

`N` lists of all processes, the `G` lists of a prompt together; `K` ranks; `F` reward functions. Of these, a process
trains on micro-batches of `B` lists of `T` tokens in `U` units: the K ranks, the end token, then one unit for each line
beyond rank K.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rankrl.rewards import RankScores

if TYPE_CHECKING:
    from rankrl.grpo.config import RankGRPOConfig


@dataclass(frozen=True)
class Lists:
    """The lists of one generation, and what the reward functions say of them.

    Attributes:
        rewards: `(N, K, F)` float64, what each function pays at each rank; NaN where it gave one float for the whole
            list, or no score.
        totals: `(N, F)` float64, what it pays for the list: the sum over its ranks, or the one float; NaN: no score.
        present: `(N, K)` bool, ranks that the list has.
        overflow: `(N,)` int64, lines beyond rank K.
        num_generations: G, lists per prompt.
        scores: what a `RankReward` saw, item ids and hits among it; None where no reward function is one.
    """

    rewards: Tensor
    totals: Tensor
    present: Tensor
    overflow: Tensor
    num_generations: int
    scores: RankScores | None = None

    @property
    def lengths(self) -> Tensor:
        """`(N,)` int64: lines of each list."""
        return self.present.sum(1) + self.overflow


@dataclass(frozen=True)
class Returns:
    """What lists are compared by, for each reward function.

    Attributes:
        ranks: `(N, K, F)` float64, return of each rank; NaN: no score.
        lists: `(N, F)` float64, of each list as a whole; NaN: no score.
    """

    ranks: Tensor
    lists: Tensor

    def checked(self, lists: Lists) -> Returns:
        """These, if they are the returns of the lists.

        Raises:
            ValueError: if they are not, by their shapes.
        """
        _require_shapes(self, {"ranks": lists.rewards.shape, "lists": lists.totals.shape})
        return self


@dataclass(frozen=True)
class Advantages:
    """How much each part of a list is to be encouraged. The tokens of a part share it.

    Attributes:
        ranks: `(N, K)` float, at each rank.
        end: `(N,)` float, at the end token.
        overflow: `(N,)` float, at each line beyond rank K.

    Example:
        >>> Advantages.of_ranks(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))  # two lists of two ranks
    """

    ranks: Tensor
    end: Tensor
    overflow: Tensor

    @classmethod
    def of_ranks(cls, ranks: Tensor) -> Advantages:
        """Credit for `(N, K)` ranks alone: 0 at the end token and beyond rank K."""
        nothing = ranks.new_zeros(len(ranks))
        return cls(ranks, nothing, nothing)

    @classmethod
    def of_lists(cls, lists: Tensor, num_ranks: int) -> Advantages:
        """Credit for `(N,)` whole lists: every part of a list gets the same."""
        return cls(lists[:, None].expand(-1, num_ranks), lists, lists)

    def with_penalties(self, lists: Lists, args: RankGRPOConfig) -> Advantages:
        """These plus what the settings add for repeats, lists that end early or go on, and lists that end in time.

        Raises:
            ValueError: if these are not the advantages of the lists, by their shapes; for a `repeat_penalty` where no
                reward function says which items a list names.
        """
        one_each = lists.overflow.shape
        _require_shapes(self, {"ranks": lists.present.shape, "end": one_each, "overflow": one_each})
        ranks = self.ranks
        if args.repeat_penalty:
            if lists.scores is None:
                raise ValueError(
                    f"repeat_penalty is {args.repeat_penalty}, but no reward function says which items a list names: "
                    "use rankrl.rewards.RankReward, or set repeat_penalty to 0."
                )
            ranks = ranks + torch.as_tensor(lists.scores.repeats, device=ranks.device) * args.repeat_penalty
        complete = lists.present.all(1)
        in_time = complete & (lists.overflow == 0)
        end = self.end + ~complete * args.early_stop_penalty + in_time * args.end_of_list_bonus
        return Advantages(ranks, end, self.overflow + args.overflow_penalty)

    def by_unit(self, lists: slice, present: Tensor) -> Tensor:
        """`(B, U)` float32: the advantage of each unit that some of the lists have, 0 where it is not `present`."""
        num_overflow = present.shape[1] - self.ranks.shape[1] - 1
        overflow = self.overflow[lists, None].expand(-1, num_overflow)
        return torch.cat([self.ranks[lists], self.end[lists, None], overflow], 1).to(torch.float32) * present


@dataclass(frozen=True)
class Tokens:
    """What the loss of a micro-batch is computed from.

    Attributes:
        log_probs: `(B, T)` float32, log-probabilities under the policy; carries the gradient.
        old_log_probs: `(B, T)`, under the policy that sampled the lists.
        ref_log_probs: `(B, T)`, under the policy at the start of RL; None with `beta = 0`.
        entropies: `(B, T)`, entropy of the policy before each token, in nats.
        mask: `(B, T)`, 1 on the tokens that count.
        unit_ids: `(B, T)` int64: `0..K-1` ranks, `K` the end token, `K+1..` lines beyond rank K, -1 padding.
        advantages: `(B, U)` float32, of each unit.
        weights: `(B, U)`, importance of units that another engine sampled; None where the policy itself did.
    """

    log_probs: Tensor
    old_log_probs: Tensor
    ref_log_probs: Tensor | None
    entropies: Tensor
    mask: Tensor
    unit_ids: Tensor
    advantages: Tensor
    weights: Tensor | None


def _require_shapes(record: Returns | Advantages, expected: dict[str, torch.Size]) -> None:
    for name, shape in expected.items():
        if (found := getattr(record, name).shape) != shape:
            raise ValueError(
                f"{type(record).__name__}.{name} has shape {tuple(found)}; expected {tuple(shape)}, where the first "
                "number is how many lists there are on all processes. rankrl/grpo/credit.py says what the others are."
            )
