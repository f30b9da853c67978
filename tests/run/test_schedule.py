"""The learning rate steps down where the arguments say, and a resumed run walks down the same stairs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, StepLR
from transformers import Trainer, TrainingArguments, get_constant_schedule_with_warmup

from rankrl.run.schedule import LearningRateSteps, ScheduleArguments


def training(directory: Path, **settings: Any) -> TrainingArguments:
    defaults = {"learning_rate": 1e-2, "lr_scheduler_type": "constant", "use_cpu": True, "report_to": []}
    return TrainingArguments(str(directory), **{**defaults, **settings})


@pytest.fixture
def stepping(make_trainer: Callable[..., Trainer], tmp_path: Path) -> Callable[..., Trainer]:
    """Builds a trainer of five steps whose rate falls as told, with a checkpoint of every second."""

    def make(steps: dict[float, float], name: str = "run") -> Trainer:
        settings = {"learning_rate": 1e-2, "lr_scheduler_type": "constant", "max_steps": 5, "logging_steps": 1}
        settings |= {"save_strategy": "steps", "save_steps": 2}
        callback = LearningRateSteps(ScheduleArguments(steps), SimpleNamespace(**settings))
        return make_trainer(name, callbacks=[callback], **settings)

    return make


def rates(trainer: Trainer) -> list[float]:
    return [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]


# ---- The rate of each step -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({2: 1e-3, 3: 5e-4}, [1e-2, 1e-2, 1e-3, 5e-4, 5e-4]),
        ({0.5: 1e-3}, [1e-2, 1e-2, 1e-2, 1e-3, 1e-3]),  # half of 5 steps are 3, rounded up
        ({}, [1e-2] * 5),
    ],
)
def test_the_rate_of_each_update(
    steps: dict[float, float], expected: list[float], stepping: Callable[..., Trainer]
) -> None:
    trainer = stepping(steps)
    used = []
    trainer.create_optimizer()
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda *a, **k: (used.append(trainer.optimizer.param_groups[0]["lr"]), step(*a, **k))[1]
    trainer.train()
    assert used == pytest.approx(expected)
    assert rates(trainer) == pytest.approx(expected), "and that is what the log says"


def test_a_resumed_run_ends_with_the_same_weight(stepping: Callable[..., Trainer]) -> None:
    straight = stepping({3: 1e-3})
    straight.train()
    for checkpoint in ("checkpoint-2", "checkpoint-4"):  # before the step down and after
        resumed = stepping({3: 1e-3}, "resumed")
        resumed.train(resume_from_checkpoint=f"{straight.args.output_dir}/{checkpoint}")
        assert torch.equal(resumed.model.weight, straight.model.weight)
        assert rates(resumed) == rates(straight)


def test_a_warm_up_is_kept() -> None:
    """Four steps up to 0.01, then 0.01, then half of it."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = get_constant_schedule_with_warmup(optimizer, 4)
    args = SimpleNamespace(learning_rate=0.01, lr_scheduler_type="constant_with_warmup")
    callback = LearningRateSteps(ScheduleArguments({6: 0.005}), args)
    callback.on_train_begin(args, SimpleNamespace(max_steps=8), None, lr_scheduler=scheduler)
    used = []
    for _ in range(8):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert used == pytest.approx([0, 0.0025, 0.005, 0.0075, 0.01, 0.01, 0.005, 0.005])


def test_the_schedule_of_the_paper_is_written_in_yaml_as_it_is_read() -> None:
    """YAML reads 1e-7 as text, and orders nothing."""
    schedule = ScheduleArguments({0.75: "5e-8", 0.25: "2.5e-7", 0.5: 1e-7})
    assert list(schedule.learning_rate_steps.items()) == [(0.25, 2.5e-7), (0.5, 1e-7), (0.75, 5e-8)]
    callback = LearningRateSteps(schedule, SimpleNamespace(learning_rate=5e-7, lr_scheduler_type="constant"))
    assert callback.in_steps(15_960) == {3990: 2.5e-7, 7980: 1e-7, 11_970: 5e-8}


# ---- What is refused, and what is said -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({0: 1e-7}, "names step 0; expected a whole number"),
        ({-1: 1e-7}, "names step -1; expected"),
        ({2.5: 1e-7}, "names step 2.5; expected"),
        ({0.5: 1e-7, 800: 1e-8}, "names 0.5, 800: steps and shares of training. Give one or the other"),
        ({100: 1e-7, 200: 1e-6}, "rates 1e-07, 1e-06; expected each to be below the one before"),
        ({100: 1e-7, 200: 1e-7}, "expected each to be below the one before"),
        ({100: 0.0}, "and above 0"),
    ],
)
def test_steps_that_are_no_stairs_are_refused(steps: dict[float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScheduleArguments(steps)


def test_two_schedules_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lr_scheduler_type is 'cosine'.*Set lr_scheduler_type to constant"):
        LearningRateSteps(ScheduleArguments({2: 1e-3}), training(tmp_path, lr_scheduler_type="cosine"))
    LearningRateSteps(ScheduleArguments(), training(tmp_path, lr_scheduler_type="cosine"))


def test_a_first_step_up_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="begins with 0.1, which is not below learning_rate, 0.01"):
        LearningRateSteps(ScheduleArguments({2: 0.1}), training(tmp_path))


def test_another_scheduler_is_refused(tmp_path: Path) -> None:
    callback = LearningRateSteps(ScheduleArguments({2: 1e-3}), training(tmp_path))
    other = StepLR(SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-2), 1)
    with pytest.raises(ValueError, match="this run has a StepLR"):
        callback.on_train_begin(training(tmp_path), SimpleNamespace(max_steps=4), None, lr_scheduler=other)


def test_the_stairs_are_logged_and_those_never_reached_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = LambdaLR(SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-2), lambda _: 1.0)
    args = training(tmp_path)
    callback = LearningRateSteps(ScheduleArguments({2: 1e-3, 8: 1e-4}), args)
    with caplog.at_level(logging.INFO):
        callback.on_train_begin(args, SimpleNamespace(max_steps=8), None, lr_scheduler=scheduler)
    assert caplog.messages == [
        "learning rate 0.01, from step 2 on 0.001, from step 8 on 0.0001",
        "training ends after 8 steps, before step 8 of learning_rate_steps",
    ]
