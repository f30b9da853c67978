"""Credit from lists to units, by hand; what a trainer of one's own may override, and what it may not get wrong."""

from __future__ import annotations

from dataclasses import replace
from math import inf, log2
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from catalog import Catalog
from rankrl.grpo import Advantages, Lists, RankGRPOConfig, RankGRPOTrainer, Returns, Tokens
from rankrl.grpo.credit import units_to_hold, weights_by_unit
from rankrl.grpo.ranked_rewards import RankedRewards
from rankrl.rewards import RankReward, RankScores
from tests.grpo.conftest import NUM_RANKS
from tests.grpo.injected import gap, train_on

PENALTIES = {"early_stop_penalty": -0.5, "overflow_penalty": -0.125, "repeat_penalty": 0.0, "end_of_list_bonus": 0.25}

# Four lists of at most three ranks, as units: ranks, end token, two lines beyond rank K.
COMPLETE, SHORT, LONG, CUT = [1, 1, 1, 1, 0, 0], [1, 1, 0, 1, 0, 0], [1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]
UNITS = torch.tensor([COMPLETE, SHORT, LONG, CUT]).bool()


def lists_of(units: torch.Tensor, scores: RankScores | None = None) -> Lists:
    size, num_ranks = len(units), NUM_RANKS
    nothing = torch.zeros(size, num_ranks, 1, dtype=torch.float64)
    return Lists(nothing, nothing.sum(1), units[:, :num_ranks], units[:, num_ranks + 1 :].sum(1), 2, scores)


class Tenfold(RankReward):
    def __call__(self, **columns: Any) -> list[list[float]]:
        return [[10 * value for value in row] for row in super().__call__(**columns)]


@pytest.mark.parametrize(
    ("family", "early", "late"),
    [
        ({"kind": "log"}, 1.0, 1 / log2(3)),  # DCG
        ({"gamma": inf}, 1.0, 1.0),  # hits
        ({"gamma": 2.0}, 1.0, 1.0),
    ],
)
def test_a_list_is_worth_what_its_reward_says(family: dict[str, Any], early: float, late: float) -> None:
    """Of one that changes what `RankReward` says: on the scale of its ranks, and a late hit no more than an early."""
    catalog = Catalog([("Heat", 1995), ("Up", 2009)])
    columns = {
        "completions": ["Heat (1995)\nUp (2009)", "Up (2009)\nHeat (1995)"],
        "ground_truth": [[("Heat", 1995)]] * 2,
    }
    plain, changed = (RankedRewards(kind(catalog, 2, **family), 2) for kind in (RankReward, Tenfold))
    assert plain(**columns) == pytest.approx([early, late])
    first, second = changed(**columns)
    assert first == pytest.approx(10 * early)
    assert first >= second
    assert changed.scores is not None, "the log sees hits and repeats all the same"


def test_the_list_of_another_function_is_worth_the_sum_of_its_ranks() -> None:
    assert RankedRewards(lambda completions: [[1.0, 0.5]], 2)(completions=["a"]) == [1.5]
    assert RankedRewards(lambda completions: [7.0], 2)(completions=["a"]) == [7.0]


def test_what_was_said_of_ranks_before_is_forgotten() -> None:
    answers: list[Any] = [[[1.0, 0.5]], [7.0]]
    function = RankedRewards(lambda completions: answers.pop(0), 2)
    function(completions=["a"])
    assert function.values is not None
    function(completions=["a"])
    assert function.values is None, "one float a list, this time"

    reward = RankedRewards(RankReward(Catalog([("Heat", 1995), ("Up", 2009)]), 2), 2)
    assert reward(completions=["Heat (1995)"], ground_truth=[[("Heat", 1995)]]) == [1.0]
    assert reward(completions=["Up (2009)"], ground_truth=[[("Heat", 1995)]]) == [0.0]
    assert reward.scores is not None
    assert not reward.scores.hits.any()


def test_an_asynchronous_reward_is_refused(make_trainer: Any) -> None:
    async def waits(completions: list[str], **_: Any) -> list[float]:
        return [0.0] * len(completions)

    class Waits:
        async def __call__(self, completions: list[str], **_: Any) -> list[float]:
            return [0.0] * len(completions)

    for function in (waits, Waits()):
        with pytest.raises(ValueError, match="is asynchronous, and what it says of ranks is read when it is called"):
            make_trainer(reward_funcs=[function])


def settings(**changes: float) -> Any:
    return SimpleNamespace(**{**PENALTIES, **changes})


def test_ranks_are_credited_where_they_are_and_ends_as_they_deserve() -> None:
    ranks = torch.arange(12, dtype=torch.float64).reshape(4, 3) + 1
    advantages = Advantages.of_ranks(ranks).with_penalties(lists_of(UNITS), settings())
    found = advantages.by_unit(slice(0, 4), UNITS)
    assert found.dtype == torch.float32
    assert found.tolist() == [
        [1, 2, 3, 0.25, 0, 0],  # complete
        [4, 5, 0, -0.5, 0, 0],  # ended early: the missing rank has no unit
        [7, 8, 9, 0, -0.125, -0.125],  # two lines too many
        [10, 11, 12, 0, 0, 0],  # cut by the length limit: no end token
    ]


def test_a_whole_list_shares_its_credit_to_the_last_line() -> None:
    advantages = Advantages.of_lists(torch.tensor([1.0, 2.0, 3.0, 4.0]), NUM_RANKS)
    found = advantages.with_penalties(lists_of(UNITS), settings()).by_unit(slice(0, 4), UNITS)
    assert found.tolist() == [
        [1, 1, 1, 1.25, 0, 0],
        [2, 2, 0, 1.5, 0, 0],
        [3, 3, 3, 3, 2.875, 2.875],
        [4, 4, 4, 0, 0, 0],
    ]


def test_a_process_takes_its_own_lists() -> None:
    advantages = Advantages.of_lists(torch.arange(4.0), NUM_RANKS)
    assert advantages.by_unit(slice(2, 4), UNITS[2:]).tolist() == [[2, 2, 2, 2, 2, 2], [3, 3, 3, 0, 0, 0]]


def test_one_line_too_many_costs_as_much_as_each_of_several() -> None:
    units = torch.tensor([[1, 1, 1, 1, 1]]).bool()
    lists = lists_of(units)
    found = Advantages.of_ranks(torch.zeros(1, NUM_RANKS)).with_penalties(lists, settings()).by_unit(slice(0, 1), units)
    assert found.tolist() == [[0, 0, 0, 0, -0.125]]
    assert lists.lengths.tolist() == [4]
    assert lists_of(UNITS).lengths.tolist() == [3, 2, 5, 3], "lines beyond rank K are lines"


def test_a_token_that_does_not_count_takes_no_unit_with_it() -> None:
    """The importance 0 of padding has a logarithm of minus infinity."""
    inputs = {
        "unit_ids": torch.tensor([[0, 0, 1, -1]]),
        "completion_mask": torch.tensor([[1, 1, 1, 0]]),
        "advantages": torch.zeros(1, 3),
    }
    weights = weights_by_unit(torch.tensor([[4.0, 1.0, 0.0, 0.0]]), inputs)
    assert weights is not None
    assert weights[0].tolist() == pytest.approx([2.0, 0.0, 1.0])


def test_a_repeated_item_costs_what_is_set() -> None:
    ranked = np.array([[5, 5, 7], [-1, -1, 5]])  # what names nothing repeats nothing
    nothing = np.zeros((2, NUM_RANKS))
    scores = RankScores(ranked, nothing, nothing > 0, nothing, nothing, nothing > 0, nothing[:, 0])
    assert scores.repeats.tolist() == [[False, True, False], [False, False, False]]
    units = torch.ones(2, NUM_RANKS + 1).bool()
    advantages = Advantages.of_ranks(torch.zeros(2, NUM_RANKS))
    found = advantages.with_penalties(lists_of(units, scores), settings(repeat_penalty=-0.5, end_of_list_bonus=0.0))
    assert found.by_unit(slice(0, 2), units).tolist() == [[0, -0.5, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("advantages", "said"),
    [
        (Advantages.of_ranks(torch.zeros(4, 1)), r"Advantages.ranks has shape \(4, 1\); expected \(4, 3\)"),
        (Advantages(torch.zeros(4, 3), torch.zeros(4, 1), torch.zeros(4)), r"Advantages.end has shape \(4, 1\)"),
    ],
)
def test_credit_of_another_shape_is_refused(advantages: Advantages, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        advantages.with_penalties(lists_of(UNITS), settings())


def test_ranks_that_nothing_moves_are_not_held() -> None:
    # Three ranks, end token, one line too many. Ranks 1 and 3 have no spread; rank 3 of the second list is a repeat.
    advantages = torch.tensor([[1e-9, 1.0, 0.0, 0.0, 0.0], [-1e-9, -1.0, -0.5, -0.1, 0.0]])
    informative = torch.tensor([[False, True, False]]).expand(2, -1)
    assert units_to_hold(advantages, informative).tolist() == [
        [False, True, False, True, True],
        [False, True, True, True, True],
    ]


def test_returns_of_another_shape_are_refused() -> None:
    lists = lists_of(UNITS)
    returns = Returns(lists.rewards, lists.totals)
    assert returns.checked(lists) is returns
    with pytest.raises(ValueError, match=r"Returns.ranks has shape \(4, 3\); expected \(4, 3, 1\)"):
        Returns(lists.rewards[:, :, 0], lists.totals).checked(lists)
    with pytest.raises(ValueError, match=r"Returns.lists has shape \(4,\); expected \(4, 1\)"):
        Returns(lists.rewards, lists.totals[:, 0]).checked(lists)


# ---- A trainer of one's own ------------------------------------------------------------------------------------------


ONE_STEP = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 19, "max_steps": 1}
PLAIN = {**ONE_STEP, "max_grad_norm": 0.0, "optim": "sgd", "beta": 0.0}


@pytest.mark.parametrize("method", ["returns", "advantages", "loss"])
def test_what_is_overridden_is_used(method: str, make_trainer) -> None:
    """Twice the returns, not scaled, are twice the advantages, are twice the loss: twice the gradient."""

    class Doubled(RankGRPOTrainer):
        def returns(self, lists: Lists) -> Returns:
            returns = super().returns(lists)
            return replace(returns, ranks=2 * returns.ranks) if method == "returns" else returns

        def advantages(self, lists: Lists, returns: Returns) -> Advantages:
            advantages = super().advantages(lists, returns)
            return replace(advantages, ranks=2 * advantages.ranks) if method == "advantages" else advantages

    class DoubledLoss(RankGRPOTrainer):
        def loss(self, tokens: Tokens) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            loss, metrics = super().loss(tokens)
            return 2 * loss, {**metrics, "advantage": tokens.advantages}

    plain = {**PLAIN, "scale_rewards": "none", "early_stop_penalty": 0.0, "overflow_penalty": 0.0}
    once = train_on(make_trainer("once", **plain))
    twice = train_on(make_trainer("twice", trainer_class=DoubledLoss if method == "loss" else Doubled, **plain))
    assert gap(twice.gradients[0], {name: 2 * value for name, value in once.gradients[0].items()}) < 1e-5
    assert twice.logs[0]["return/all"] == pytest.approx(once.logs[0]["return/all"] * (2 if method == "returns" else 1))
    assert ("advantage/1-3" in twice.logs[0]) == (method == "loss"), "metrics of one's own are logged by rank"


def test_the_loss_is_told_which_units_to_hold(make_trainer) -> None:
    held = []

    class Seen(RankGRPOTrainer):
        def loss(self, tokens: Tokens) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            held.append(tokens.kl_units)
            return super().loss(tokens)

    def first_rank_pays(completions: list[str], **columns: Any) -> list[list[float]]:
        return [[float(len(text)), 1.0, 0.0] for text in completions]

    settings = {**ONE_STEP, "trainer_class": Seen, "reward_funcs": first_rank_pays}
    train_on(make_trainer("all", **settings))
    train_on(make_trainer("some", **settings, kl_cells="informative"))
    assert held[0] is None
    assert held[1].tolist() == [[True, False, False, True, True]] * 8  # ranks, end token, the one line too many


def test_a_loss_that_trl_would_not_use_is_refused(make_trainer) -> None:
    class Own(RankGRPOTrainer):
        def loss(self, tokens: Tokens) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return tokens.log_probs.mean(), {}

    with pytest.raises(ValueError, match="Own brings a loss of its own, but aggregation is 'trl'"):
        make_trainer(preset="grpo", trainer_class=Own)


def test_the_settings_are_those_of_the_config() -> None:
    """`with_penalties` reads four fields: the stand-in of these tests has all of them, under their names."""
    assert PENALTIES.keys() <= vars(RankGRPOConfig("unused", use_cpu=True, bf16=False, report_to=[])).keys()
