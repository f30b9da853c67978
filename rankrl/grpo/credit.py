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

from rankrl.grpo.objective import unit_mean
from rankrl.rewards import RankScores

if TYPE_CHECKING:
    from rankrl.grpo.config import RankGRPOConfig


@dataclass(frozen=True)
class Lists:
    """The lists of one generation, and what the reward functions say of them.

    Attributes:
        rewards: `(N, K, F)` float64, what each function pays at each rank; NaN where it gave one float for the whole
            list, or no score.
        totals: `(N, F)` float64, what it pays for the list as a whole: of a `RankReward` see `list_returns`, else the
            sum over its ranks, or the one float; NaN: no score.
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


def units_to_hold(advantages: Tensor, informative: Tensor) -> Tensor:
    """The units whose KL counts under `kl_cells="informative"`: all but the ranks that nothing else moves.

    Args:
        advantages: `(B, U)`, of each unit. A rank that a penalty moves is held, too.
        informative: `(B, K)` bool: do the lists of the prompt differ at that rank?

    Returns:
        `(B, U)` bool. End token and overflow lines, which no group compares, are held.
    """
    held = advantages.abs() > 1e-6  # deviations: less is the rounding of a mean
    held[:, : informative.shape[1]] |= informative
    held[:, informative.shape[1] :] = True
    return held


def weights_by_unit(weights: Tensor | None, inputs: dict[str, Tensor]) -> Tensor | None:
    """How much each unit of lists that another engine sampled counts.

    Args:
        weights: TRL's importance of what vLLM sampled: `(B, 1)` of lists, or `(B, T)` of tokens, which act by the
            geometric mean over their unit; None where the policy itself sampled.
        inputs: `unit_ids` `(B, T)`, `completion_mask` `(B, T)` and `advantages` `(B, U)`.

    Returns:
        `(B, U)`, or None.
    """
    if weights is None:
        return None
    num_units = inputs["advantages"].shape[1]
    if weights.shape[1] == 1:  # sequence modes
        return weights.expand(-1, num_units)
    # A token that the engine's mask dropped has weight 0, and so has its unit: log 0 = -inf, exp(-inf) = 0.
    log_weights = weights.log().clamp(min=-1e4)
    return unit_mean(log_weights, inputs["unit_ids"], inputs["completion_mask"], num_units).exp()


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
        kl_units: `(B, U)` bool, units whose KL counts; None: all.
        list_tokens: scalar, the mean number of tokens of a list of the generation, where all tokens weigh alike
            (`aggregation="token"`); None: all units do.
    """

    log_probs: Tensor
    old_log_probs: Tensor
    ref_log_probs: Tensor | None
    entropies: Tensor
    mask: Tensor
    unit_ids: Tensor
    advantages: Tensor
    weights: Tensor | None
    kl_units: Tensor | None = None
    list_tokens: Tensor | None = None


def _require_shapes(record: Returns | Advantages, expected: dict[str, torch.Size]) -> None:
    for name, shape in expected.items():
        if (found := getattr(record, name).shape) != shape:
            raise ValueError(
                f"{type(record).__name__}.{name} has shape {tuple(found)}; expected {tuple(shape)}, where the first "
                "number is how many lists there are on all processes. rankrl/grpo/credit.py says what the others are."
            )
