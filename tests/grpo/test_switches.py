"""Each switch of the loss by hand, and what TRL adds to a loss: the trainer hands it on, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from math import exp, isfinite
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, MixtralConfig

from rankrl.grpo import Advantages, Lists, RankGRPOTrainer, Returns, Tokens
from rankrl.grpo.trl_options import LOSSES
from tests.grpo.conftest import NUM_RANKS
from tests.grpo.injected import Steps, gap, train_on

# One list: a rank of two tokens that have become likelier, one of a token that has become rarer, no third rank, an end.
MOVED = [0.05, 0.35, -0.5, 0.0]
UNITS = [0, 0, 1, NUM_RANKS]


def tokens(advantages: list[float], **changes: Any) -> Tokens:
    moved = torch.tensor([MOVED], dtype=torch.float64)
    return Tokens(
        **{
            "log_probs": moved - 3.0,
            "old_log_probs": torch.full_like(moved, -3.0),
            "ref_log_probs": None,
            "entropies": torch.ones_like(moved),
            "mask": torch.ones(1, 4),
            "unit_ids": torch.tensor([UNITS]),
            "advantages": torch.tensor([advantages], dtype=torch.float64),
            "weights": None,
            **changes,
        }
    )


PLAIN = [2.0, -1.0, 9.0, 0.5]  # the third rank is not there, whatever its advantage


@pytest.mark.parametrize(
    ("settings", "advantages", "terms"),
    [
        # e^0.2 is above 1.08, e^-0.5 below 0.94: both are clipped.
        ({"ratio": "rank"}, PLAIN, [2 * 1.08, -0.94, 0.5]),
        ({"ratio": "token"}, PLAIN, [2 * (exp(0.05) + 1.08) / 2, -0.94, 0.5]),
        # The mean over the four tokens, -0.025, stays inside.
        ({"ratio": "sequence"}, PLAIN, [2 * exp(-0.025), -exp(-0.025), 0.5 * exp(-0.025)]),
        ({"epsilon": 0.5}, PLAIN, [2 * 1.08, -exp(-0.5), 0.5]),
        ({"epsilon_high": 0.3}, PLAIN, [2 * exp(0.2), -0.94, 0.5]),
        # What would make the list worse is never clipped; delta limits it.
        ({}, [-2.0, 1.0, 0.0, 0.0], [-2 * exp(0.2), exp(-0.5), 0.0]),
        ({"delta": 1.15}, [-2.0, 1.0, 0.0, 0.0], [-2 * 1.15, exp(-0.5), 0.0]),
    ],
)
def test_switches_of_the_loss(
    settings: dict[str, Any], advantages: list[float], terms: list[float], make_trainer
) -> None:
    loss, _ = make_trainer(**settings, beta=0.0).loss(tokens(advantages))
    assert loss.item() == pytest.approx(-sum(terms) / NUM_RANKS, abs=1e-12)


def test_beta_weighs_the_distance_to_the_start(make_trainer) -> None:
    """The k3 estimate, averaged within each rank: of log-ratios 0.2 and 0.4 in the first, 0.1 in the second."""
    distance = torch.tensor([[0.2, 0.4, 0.1, 0.0]], dtype=torch.float64)
    reference = torch.tensor([MOVED], dtype=torch.float64) - 3.0 - distance
    loss, metrics = make_trainer(beta=0.5).loss(tokens([0.0] * 4, ref_log_probs=reference))
    first, second = ((exp(-0.2) - 0.8) + (exp(-0.4) - 0.6)) / 2, exp(-0.1) - 0.9
    assert metrics["kl"][0].tolist() == pytest.approx([first, second, 0.0, 0.0], abs=1e-9)
    assert loss.item() == pytest.approx(0.5 * (first + second) / NUM_RANKS, abs=1e-9)


# ---- What TRL multiplies or adds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratios", "weights"),
    [
        ([[0.5]], [0.5, 0.5, 0.5, 0.5]),  # sequence modes: the whole list
        ([[2.0, 0.5, 3.0, 0.25]], [1.0, 3.0, 1.0, 0.25]),  # token modes: the geometric mean over a unit
        ([[0.0, 0.5, 3.0, 1.0]], [0.0, 3.0, 1.0, 1.0]),  # a token that was masked takes its unit with it
    ],
)
def test_the_correction_for_vllm_acts_on_units(ratios: list, weights: list[float], make_trainer) -> None:
    trainer = make_trainer(beta=0.0)
    mask, unit_ids = torch.ones(1, 4), torch.tensor([UNITS])
    inputs = {"completion_mask": mask, "unit_ids": unit_ids, "advantages": torch.tensor([PLAIN])}
    log_probs = torch.full((1, 4), -3.0)
    found = trainer._tokens({**inputs, "importance_sampling_ratio": torch.tensor(ratios)}, log_probs, log_probs)
    assert found.weights[0].tolist() == pytest.approx(weights)
    assert trainer._tokens(inputs, log_probs, log_probs).weights is None

    loss, _ = trainer.loss(found)
    expected = 2 * weights[0] - weights[1] + 0.5 * weights[3]  # on-policy: a ratio of 1 each
    assert loss.item() == pytest.approx(-expected / NUM_RANKS)


@pytest.mark.parametrize("loss_type", tuple(LOSSES))
@pytest.mark.filterwarnings("ignore:advantage='rank' with ratio='sequence'")
def test_every_loss_of_trl_trains_on_credit_of_ranks(loss_type: str, make_trainer) -> None:
    batch = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 19, "beta": 0.0}
    ratio = "sequence" if loss_type == "luspo" else "token"
    settings = {**batch, "aggregation": "trl", "ratio": ratio, "loss_type": loss_type, "max_grad_norm": 0.0}
    settings |= {"epsilon_high": 5.0} if loss_type == "cispo" else {}
    by_rank, by_list = (
        train_on(make_trainer(level, advantage=level, max_steps=1, **settings)) for level in ("rank", "sequence")
    )
    assert isfinite(by_rank.logs[0]["loss"])
    assert gap(by_rank.gradients[0], by_list.gradients[0]) > 1e-3


def test_the_reference_may_follow_the_policy(make_trainer) -> None:
    """TRL's `sync_ref_model`: after the first step the reference is what the policy has become."""
    settings = {"beta": 0.1, "max_steps": 3, "learning_rate": 0.1, "optim": "sgd", "max_grad_norm": 0.0}
    stays = train_on(make_trainer("stays", **settings))
    follows = {"sync_ref_model": True, "ref_model_sync_steps": 1, "ref_model_mixup_alpha": 1.0}
    followed = train_on(make_trainer("follows", **settings, **follows))
    assert stays.logs[2]["kl/all"] > stays.logs[1]["kl/all"] > 1e-6
    assert [log["kl/all"] for log in followed.logs] == pytest.approx([0.0] * 3, abs=1e-9)


def test_the_off_policy_mask_drops_ranks_that_lost(make_trainer) -> None:
    """TRL's mask of lists, on credit of ranks: in a list that is far from the policy, what is below the others."""

    class OnlyWins(RankGRPOTrainer):
        def advantages(self, lists: Lists, returns: Returns) -> Advantages:
            found = super().advantages(lists, returns)
            return replace(found, ranks=found.ranks.clamp(min=0))

    batch = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 19, "beta": 0.0}
    settings = {**batch, "max_steps": 1, "max_grad_norm": 0.0, "early_stop_penalty": 0.0, "overflow_penalty": 0.0}
    settings |= {"aggregation": "trl", "ratio": "token"}
    everywhere = train_on(make_trainer("mask", off_policy_mask_threshold=-1.0, **settings))  # no list is near enough
    by_hand = train_on(make_trainer("by hand", trainer_class=OnlyWins, **settings))
    assert gap(everywhere.gradients[0], by_hand.gradients[0]) < 1e-5
    nowhere = train_on(make_trainer("plain", **settings))
    assert gap(everywhere.gradients[0], nowhere.gradients[0]) > 1e-2


def test_lists_that_were_cut_can_be_left_out(make_trainer) -> None:
    """They add nothing; what the other lists add stays as it is, and so does what it is divided by."""

    class WithoutCutLists(RankGRPOTrainer):
        def loss(self, tokens: Tokens) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            ended = (tokens.unit_ids == NUM_RANKS).any(1, keepdim=True)
            assert (~ended).sum() == 1
            return super().loss(replace(tokens, mask=tokens.mask * ended))

    batch = {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 19, "beta": 0.1}
    settings = {**batch, "max_steps": 1, "optim": "sgd", "max_grad_norm": 0.0}
    option = train_on(make_trainer("option", mask_truncated_completions=True, **settings))
    by_hand = train_on(make_trainer("by hand", trainer_class=WithoutCutLists, **settings))
    assert gap(option.gradients[0], by_hand.gradients[0]) < 1e-5
    everything = train_on(make_trainer("all", **settings))
    assert gap(option.gradients[0], everything.gradients[0]) > 1e-3
    for name in ("list_length", "return/all", "informative/all"):
        assert option.logs[0][name] == everything.logs[0][name], "what was sampled is the same"


@pytest.fixture(scope="module")
def experts_dir(policy_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny mixture of experts with the tokenizer of the tiny policy."""
    directory = tmp_path_factory.mktemp("experts")
    tokenizer = AutoTokenizer.from_pretrained(policy_dir)
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    return directory


def test_the_loss_of_a_mixture_of_experts_is_added_as_trl_adds_it(experts_dir: Path, make_trainer) -> None:
    settings = {"per_device_train_batch_size": 4, "num_generations": 4, "gradient_accumulation_steps": 2, "beta": 0.0}
    settings |= {"max_completion_length": 19, "max_steps": 1, "optim": "sgd", "max_grad_norm": 0.0}

    def step(preset: str, coefficient: float) -> Steps:
        model = AutoModelForCausalLM.from_pretrained(experts_dir)
        name = f"{preset} {coefficient}"
        return train_on(make_trainer(name, model=model, preset=preset, router_aux_loss_coef=coefficient, **settings))

    def added(preset: str) -> dict[str, torch.Tensor]:
        without, with_it = (step(preset, coefficient) for coefficient in (0.0, 0.5))
        assert "aux_loss" not in without.logs[0]
        assert with_it.logs[0]["aux_loss"] > 0.5
        gained = with_it.logs[0]["loss"] - without.logs[0]["loss"]
        assert gained == pytest.approx(0.5 * with_it.logs[0]["aux_loss"], rel=1e-3)
        return {name: value - without.gradients[0][name] for name, value in with_it.gradients[0].items()}

    assert gap(added("rank_grpo"), added("grpo")) < 1e-3
