"""`max_lists`: a run ends when it has sampled so many lists and trained on all of them, and stays at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.grpo.list_budget import updates_are_made
from rankrl.run.interrupt import train
from tests.grpo.conftest import letters_of_even_prompts

# Each generation samples 4 lists. Settings -> lists sampled in all, optimizer steps taken, with a budget of 10.
CASES: dict[str, tuple[dict[str, Any], int, int]] = {
    "one update on each generation": ({}, 12, 3),
    "three updates": ({"num_iterations": 3}, 12, 9),
    "two steps a generation, two lists each": (
        {"steps_per_generation": 2, "per_device_train_batch_size": 2},
        *(12, 6),
    ),
    "two steps a generation, twice": (
        {"steps_per_generation": 2, "per_device_train_batch_size": 2, "num_iterations": 2},
        *(12, 12),
    ),
    "two generations a step": ({"gradient_accumulation_steps": 2, "steps_per_generation": 1}, 16, 2),
    "a step that ends in the middle of a generation": (
        {"gradient_accumulation_steps": 2, "steps_per_generation": 1, "num_iterations": 3},  # 3 updates, 2 a step
        *(12, 4),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_training_ends_when_the_lists_are_sampled_and_trained_on(case: str, make_trainer: Any) -> None:
    settings, lists, steps = CASES[case]
    trainer = make_trainer(max_lists=10, max_steps=50, **settings)
    trainer.train()
    assert (trainer.state.log_history[-2]["lists_sampled"], trainer.state.global_step) == (lists, steps)


def test_a_budget_that_is_met_exactly_is_not_exceeded(make_trainer: Any) -> None:
    trainer = make_trainer(max_lists=8, max_steps=50)
    trainer.train()
    assert trainer.state.log_history[-2]["lists_sampled"] == 8


def test_lists_of_further_prompts_count_too(make_trainer: Any) -> None:
    settings = {"max_steps": 50, "max_lists": 24, "reward_funcs": letters_of_even_prompts}
    fixed, dynamic = make_trainer("fixed", **settings), make_trainer("dynamic", dynamic_sampling_rounds=3, **settings)
    for trainer in (fixed, dynamic):
        trainer.train()
    assert fixed.state.global_step == 6
    assert dynamic.state.global_step < 6
    assert dynamic.state.log_history[-2]["lists_sampled"] >= 24


def test_max_steps_ends_it_where_that_comes_first(make_trainer: Any) -> None:
    trainer = make_trainer(max_lists=100, max_steps=2)
    trainer.train()
    assert trainer.state.global_step == 2


def test_a_run_at_the_end_of_its_budget_stays_there(make_trainer: Any) -> None:
    settings = {"max_lists": 8, "max_steps": 50, "save_strategy": "steps", "save_steps": 40}
    train(first := make_trainer(**settings), None)
    assert first.state.global_step == 2
    checkpoint = Path(first.args.output_dir) / "checkpoint-2"
    assert checkpoint.is_dir(), "the end is saved, as with max_steps"
    train(again := make_trainer(**settings), str(checkpoint))
    assert again.state.global_step == 2
    train(further := make_trainer(**{**settings, "max_lists": 12}), str(checkpoint))
    assert further.state.global_step == 3, "a larger budget goes on"


def test_a_budget_of_nothing_is_refused(make_trainer: Any) -> None:
    with pytest.raises(ValueError, match="max_lists is 0; expected how many lists to sample"):
        make_trainer(max_lists=0)


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 8))
def test_the_next_step_would_need_new_lists(steps: int, a_generation: int, a_step: int) -> None:
    # By brute force: a generation begins with each micro-batch whose number is a multiple of `a_generation`.
    done = steps * a_step
    begins = any(number % a_generation == 0 for number in range(done, done + a_step))
    assert updates_are_made(done, a_generation, a_step) == begins
