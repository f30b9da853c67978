"""Every setting out of its range is an error that says what to use."""

from typing import Any

import pytest

from rankrl.grpo import RankGRPOConfig

OF_TRL = {"aggregation": "trl", "ratio": "token"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_ranks": 0}, "at least 1"),
        ({"num_ranks": 2.5}, "at least 1"),
        ({"advantage": "item"}, "expected one of 'rank', 'sequence'"),
        ({"ratio": "item"}, "expected one of 'rank', 'token', 'sequence'"),
        ({"aggregation": "mean"}, "expected one of 'rank', 'token', 'trl'"),
        ({"aggregation": "trl"}, "knows the ratios 'token' and 'sequence' only"),
        ({"aggregation": "trl", "ratio": "token", "importance_sampling_level": "sequence"}, "contradicts ratio"),
        ({"early_stop_penalty": 0.1}, "expected 0 or less"),
        ({"overflow_penalty": float("nan")}, "expected 0 or less"),
        ({"end_of_list_bonus": -0.1}, "expected 0 or more"),
        ({"epsilon": 1.5}, "between 0 and 1"),
        ({"epsilon_high": -0.5}, "above 0"),
        ({"delta": 0.5}, r"above 1 \+ epsilon_high"),
        ({"beta": -1.0}, "expected 0"),
        ({"temperature": 0.0}, "must be above 0"),
        ({"scale_rewards": "rank"}, "expected one of 'group', 'batch', 'none'"),
        ({"loss_type": "dr_grpo"}, "loss_type='dr_grpo' belongs to TRL's own losses"),
        ({"dynamic_sampling_rounds": -1}, r"expected how often further prompts may be drawn .*: 0 \(never\) or more"),
        ({"dynamic_sampling_rounds": 1.5}, "expected how often further prompts may be drawn"),
        (
            {"dynamic_sampling_share": 1.5},
            "expected a share of the ranks of a list, from 0",
        ),
        ({"kl_cells": "some"}, "expected one of 'all', 'informative'"),
        (
            {"kl_cells": "informative", "aggregation": "trl", "ratio": "token"},
            "TRL, whose KL is of all tokens. Set kl_cells to 'all'",
        ),
        ({**OF_TRL, "loss_type": "typo"}, "loss_type is 'typo'; expected one of 'grpo', 'bnpo'"),
        ({**OF_TRL, "loss_type": "grpo", "vespo_k_pos": 3.5}, "vespo_k_pos belong to loss_type 'vespo', and 'grpo'"),
        ({**OF_TRL, "loss_type": "sapo", "delta": 2.0}, "delta is 2.0, which loss_type 'sapo' would ignore"),
        ({**OF_TRL, "loss_type": "cispo"}, "epsilon_high is 0.08, and loss_type 'cispo' limits the ratio itself"),
        ({"vllm_importance_sampling_mode": "list"}, "expected one of 'token_truncate'"),
        ({"generation_kwargs": {"temperature": 0.3}}, "sets temperature.*Leave it out, and set temperature itself"),
        ({"generation_kwargs": {"do_sample": False}}, "generation_kwargs sets do_sample"),
        ({"num_generations": 1}, "at least 2"),
        ({"num_generations": 5}, "does not divide the 8 lists"),
    ],
)
def test_bad_settings_are_errors_that_teach(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RankGRPOConfig("unused", use_cpu=True, bf16=False, report_to=[], **settings)


def test_weights_that_sampling_would_round_are_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    paged = {"use_cpu": True, "report_to": [], "use_transformers_continuous_batching": True}
    with pytest.warns(UserWarning, match="casts the weights that learn to bfloat16, in place.*a 256th of a weight"):
        RankGRPOConfig("unused", bf16=True, **paged)
    recwarn.clear()
    RankGRPOConfig("unused", bf16=False, **paged)
    assert not [warning for warning in recwarn if "in place" in str(warning.message)]


def test_filtered_sampling_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="top_k=5: lists are then sampled from a filtered distribution"):
        RankGRPOConfig("unused", use_cpu=True, bf16=False, report_to=[], top_k=5)
    with pytest.warns(UserWarning, match="top_p=0.9: lists are then sampled from a filtered distribution"):
        RankGRPOConfig("unused", use_cpu=True, bf16=False, report_to=[], generation_kwargs={"top_p": 0.9})


def test_a_loss_that_depends_on_how_lists_are_spread_is_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    plain = {"use_cpu": True, "bf16": False, "report_to": [], "preset": "rank_grpo_official"}
    RankGRPOConfig("unused", **plain)
    assert not any("bnpo" in str(warning.message) for warning in recwarn)
    with pytest.warns(UserWarning, match="each of the 2 parts that a batch has here .* aggregation='token'"):
        RankGRPOConfig("unused", gradient_accumulation_steps=2, **plain)


def test_lists_that_grow_old_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="over several optimizer steps, all but the first off-policy"):
        RankGRPOConfig("unused", use_cpu=True, bf16=False, report_to=[], steps_per_generation=2)


PLAIN = {"use_cpu": True, "bf16": False, "report_to": []}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"gradient_accumulation_steps": 4, "num_iterations": 2, "steps_per_generation": 2},
            "num_iterations=2 has no eff",
        ),
        ({"dynamic_sampling_share": 0.3}, "dynamic_sampling_share=0.3 has no effect: dynamic_sampling_rounds is 0"),
        ({"kl_cells": "informative", "beta": 0.0}, "kl_cells='informative' has no effect: beta is 0.0"),
        ({**OF_TRL, "use_bias_correction_kl": True, "beta": 0.0}, "use_bias_correction_kl=True has no effect: beta is"),
        ({**OF_TRL, "entropy_target": 0.5}, "entropy_target=0.5 has no effect: use_adaptive_entropy is False"),
        ({"ref_model_sync_steps": 7}, "ref_model_sync_steps=7 has no effect: sync_ref_model is False"),
        ({"vllm_importance_sampling_mode": "token_mask"}, "mode='token_mask' has no effect: use_vllm is False"),
        (
            {"max_lists": 80, "lr_scheduler_type": "linear"},
            "with lr_scheduler_type='linear': the rate falls",
        ),
    ],
)
def test_what_is_hardly_meant_is_said(settings: dict[str, Any], said: str) -> None:
    with pytest.warns(UserWarning, match=said):
        RankGRPOConfig("unused", **PLAIN, **settings)


def test_what_is_left_alone_is_not_said_to_have_no_effect(recwarn: pytest.WarningsRecorder) -> None:
    on = {"sync_ref_model": True, "ref_model_sync_steps": 7, "kl_cells": "informative"}
    for settings in ({}, {"beta": 0.0}, on, {"preset": "dapo"}, {**OF_TRL, "use_adaptive_entropy": True}):
        RankGRPOConfig("unused", **PLAIN, **settings)
    assert not [warning for warning in recwarn if "no effect" in str(warning.message)]


def test_updates_of_their_own_are_not_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    settings = {"gradient_accumulation_steps": 4, "num_iterations": 2, "max_lists": 80, "lr_scheduler_type": "constant"}
    RankGRPOConfig("unused", **PLAIN, **settings)
    assert not [warning for warning in recwarn if "num_iterations" in str(warning.message)]
    assert not [warning for warning in recwarn if "max_lists" in str(warning.message)]


def test_one_list_cannot_be_compared_in_evaluation_either() -> None:
    with pytest.raises(ValueError, match="num_generations_eval is 1; expected at least 2"):
        RankGRPOConfig("unused", **PLAIN, num_generations_eval=1)


@pytest.mark.parametrize(
    ("loss_type", "name"), [("cispo", "epsilon"), ("sapo", "epsilon"), ("sapo", "epsilon_high"), ("vespo", "epsilon")]
)
def test_a_clip_range_that_the_loss_ignores_is_refused(loss_type: str, name: str) -> None:
    settings = {**PLAIN, "aggregation": "trl", "ratio": "token", "loss_type": loss_type}
    settings |= {"epsilon_high": 5.0} if loss_type == "cispo" else {}
    RankGRPOConfig("unused", **settings)
    with pytest.raises(ValueError, match=f"{name}: loss_type '{loss_type}' does not clip by it"):
        RankGRPOConfig("unused", **settings, **{name: 0.1})


def test_a_batch_that_groups_do_not_divide_is_named_by_what_was_set() -> None:
    with pytest.raises(ValueError, match=r"the 12 lists of a generation \(generation_batch_size\)"):
        RankGRPOConfig("unused", **PLAIN, num_generations=8, generation_batch_size=12)
