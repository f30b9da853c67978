"""Training 4 steps equals training 2, resuming, and training 2 more: weight for weight."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from tests.grpo.conftest import letters_of_even_prompts

CASES = {
    # Eight prompts, 2 lists each: a generation of 4 lists takes 2 prompts, so an epoch has 4 steps.
    "inside an epoch": {"max_steps": 4},
    "across an epoch boundary": {"max_steps": 4, "per_device_train_batch_size": 8, "num_train_epochs": 5},
    "two iterations, two steps a generation": {"max_steps": 4, "num_iterations": 2, "steps_per_generation": 2},
    "saved in the middle of a generation": {"max_steps": 4, "num_iterations": 3, "steps_per_generation": 1},
    "gradient accumulation": {"max_steps": 4, "gradient_accumulation_steps": 2},
    "LoRA": {"max_steps": 4, "peft": True},
    "a reference that follows the policy": {
        **{"max_steps": 4, "beta": 0.5, "sync_ref_model": True},
        **{"ref_model_sync_steps": 2, "ref_model_mixup_alpha": 0.6},
    },
    "dynamic sampling": {"max_steps": 4, "dynamic_sampling_rounds": 3, "reward_funcs": letters_of_even_prompts},
    "dynamic sampling, saved in the middle of a generation": {
        **{"max_steps": 4, "num_iterations": 3, "steps_per_generation": 1},
        **{"dynamic_sampling_rounds": 3, "reward_funcs": letters_of_even_prompts},
    },
}


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("case", CASES)
def test_resume_is_exact(case: str, make_trainer) -> None:
    settings = dict(CASES[case])
    peft_config = LoraConfig(task_type="CAUSAL_LM", r=4) if settings.pop("peft", False) else None

    def build(name: str):
        return make_trainer(name, peft_config=peft_config, save_strategy="steps", save_steps=2, **settings)

    straight = build("straight")
    start = weights(straight)
    straight.train()

    resumed = build("resumed")
    checkpoint = Path(straight.args.output_dir) / "checkpoint-2"
    resumed.train(resume_from_checkpoint=str(checkpoint))

    assert resumed.state.global_step == 4
    sampled = [[entry["lists_sampled"] for entry in trainer.state.log_history] for trainer in (straight, resumed)]
    assert sampled[0] == sampled[1], "lists sampled before the stop count too"
    moved = False
    for name, value in weights(straight).items():
        assert torch.equal(value, weights(resumed)[name]), f"{name} differs after the resume"
        moved |= not torch.equal(value, start[name])
    assert moved, "training changed no weight, so the comparison says nothing"
    if "dynamic" in case:
        cursors = [trainer._dynamic_sampling.stream.cursor for trainer in (straight, resumed)]
        assert cursors[0] == cursors[1] > 0, "no further prompt was drawn, so the comparison says nothing"


def test_order_of_prompts_is_a_function_of_seed_and_epoch(make_trainer) -> None:
    sampler, again = make_trainer()._get_train_sampler(), make_trainer()._get_train_sampler()
    first = list(sampler)
    sampler.set_epoch(1)
    again.set_epoch(1)
    assert list(sampler) == list(again) != first


def test_lists_of_other_processes_are_not_lost_in_silence(make_trainer) -> None:
    trainer = make_trainer("one", save_strategy="steps", save_steps=1, max_steps=1)
    trainer.train()
    checkpoint = Path(trainer.args.output_dir) / "checkpoint-1"
    kept = checkpoint / "rank_grpo_state_0.pt"
    torch.save({**torch.load(kept), "num_processes": 2}, kept)
    with pytest.raises(ValueError, match="was written by 2 processes, and this run has 1: launch as many"):
        make_trainer("two").train(resume_from_checkpoint=str(checkpoint))


def test_a_reference_that_was_not_kept_is_missed(make_trainer) -> None:
    settings = {"sync_ref_model": True, "beta": 0.5, "save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    trainer = make_trainer("one", **settings)
    trainer.train()
    checkpoint = Path(trainer.args.output_dir) / "checkpoint-1"
    (checkpoint / "rank_grpo_reference.pt").unlink()
    with pytest.raises(ValueError, match="does not hold it.*the KL would be to the start of the run again"):
        make_trainer("two", **settings).train(resume_from_checkpoint=str(checkpoint))


def test_a_new_run_in_a_used_folder_keeps_nothing_of_the_old_one(make_trainer) -> None:
    make_trainer("one", max_steps=3).train()
    again = make_trainer("one", max_steps=4, logging_steps=2)
    again.train()
    rows = [json.loads(line) for line in (Path(again.args.output_dir) / "ranks_train.jsonl").open()]
    assert [row["step"] for row in rows] == [2, 4]


def test_a_checkpoint_of_another_trainer_is_refused(make_trainer) -> None:
    trainer = make_trainer("one", save_strategy="steps", save_steps=1, max_steps=1)
    trainer.train()
    checkpoint = Path(trainer.args.output_dir) / "checkpoint-1"
    (checkpoint / "rank_grpo_state_0.pt").unlink()
    with pytest.raises(FileNotFoundError, match="start a new run from its weights"):
        make_trainer("two").train(resume_from_checkpoint=str(checkpoint))


@pytest.mark.parametrize("smaller", [2, 1])
def test_a_run_goes_on_with_smaller_micro_batches(smaller: int, make_trainer) -> None:
    """What is advised where memory runs out."""
    saving = {"save_strategy": "steps", "save_steps": 2}
    trainer = make_trainer("one", max_steps=2, per_device_train_batch_size=4, **saving)
    trainer.train()
    parts = {"per_device_train_batch_size": smaller, "gradient_accumulation_steps": 4 // smaller}
    on = make_trainer("one", max_steps=4, steps_per_generation=4 // smaller, **parts, **saving)
    on.train(resume_from_checkpoint=str(Path(trainer.args.output_dir) / "checkpoint-2"))
    assert [entry["lists_sampled"] for entry in on.state.log_history if "loss" in entry] == [4, 8, 12, 16]


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (
            {"num_iterations": 3},
            {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
            "still to be trai",
        ),
        ({}, {"per_device_train_batch_size": 8}, "per_device_train_batch_size was 4 and is 8.*other lists would make"),
        ({}, {"num_iterations": 2}, "num_iterations was 1 and is 2.*other lists would make"),
    ],
)
def test_lists_that_are_cut_in_another_way_are_refused(before: dict, after: dict, why: str, make_trainer) -> None:
    settings = {"max_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 2, **before}
    trainer = make_trainer("one", **settings)
    trainer.train()
    with pytest.raises(ValueError, match=why):
        make_trainer("two", **{**settings, "max_steps": 4, **after}).train(
            resume_from_checkpoint=str(Path(trainer.args.output_dir) / "checkpoint-2")
        )
