"""Whose second it was, on a clock that only the work itself moves on."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rankrl.grpo import step_clock
from rankrl.grpo.step_clock import PHASES, StepClock
from tests.grpo.conftest import letters_reward


class Watch:
    """A clock that stands still but for `work`."""

    def __init__(self) -> None:
        self.now = 0.0

    def work(self, seconds: float) -> None:
        self.now += seconds

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(step_clock, "time", SimpleNamespace(perf_counter=watch.perf_counter))
    return watch


@pytest.fixture
def clock() -> StepClock:
    return StepClock(torch.device("cpu"))


def seconds(taken: dict[str, float]) -> dict[str, float]:
    return {name: taken[f"time/{name}"] for name in PHASES if taken[f"time/{name}"]}


def test_what_begins_inside_interrupts(watch: Watch, clock: StepClock) -> None:
    watch.work(100)  # before training
    clock.on_step_begin()
    watch.work(1)
    with clock.phase("other"):
        watch.work(2)
        with clock.phase("generate"):
            watch.work(4)
        watch.work(8)
    watch.work(16)
    clock.on_step_end()
    watch.work(100)  # validation, saving
    taken = clock.take()
    assert seconds(taken) == {"generate": 4, "update": 17, "other": 10}
    assert taken["time/step"] == 31
    assert taken["time_share/update"] == 17 / 31
    assert sum(taken[f"time_share/{name}"] for name in PHASES) == pytest.approx(1)


def test_a_line_speaks_of_the_steps_since_the_last(watch: Watch, clock: StepClock) -> None:
    for duration in (2, 4):
        clock.on_step_begin()
        watch.work(duration)
        clock.on_step_end()
    assert seconds(clock.take()) == {"update": 3}
    assert clock.take() == {}
    with clock.phase("credit"):  # writing the line is work of the next
        watch.work(5)
    clock.on_step_begin()
    watch.work(1)
    clock.on_step_end()
    assert seconds(clock.take()) == {"credit": 5, "update": 1}


def test_a_step_that_failed_leaves_nothing_open(watch: Watch, clock: StepClock) -> None:
    clock.on_step_begin()
    with suppress(KeyboardInterrupt), clock.phase("reward"):
        watch.work(1)
        raise KeyboardInterrupt
    watch.work(50)
    clock.on_step_begin()
    watch.work(1)
    clock.on_step_end()
    assert seconds(clock.take()) == {"reward": 1, "update": 1}


@pytest.mark.parametrize("preset", ["rank_grpo", "grpo"])
def test_the_trainer_says_where_its_time_goes(preset: str, watch: Watch, make_trainer) -> None:
    def reward(completions: list[str], **columns: Any) -> list[list[float]]:
        watch.work(3)
        return letters_reward(completions)

    def slow(function: Any, duration: float) -> Any:
        def slowed(*args: Any, **kwargs: Any) -> Any:
            watch.work(duration)
            return function(*args, **kwargs)

        return slowed

    # Two steps on each generation, two micro-batches a step: log-probabilities come in two passes, too.
    several = {"gradient_accumulation_steps": 2, "num_iterations": 2, "max_steps": 4, "beta": 0.1}
    trainer = make_trainer(preset=preset, reward_funcs=reward, logging_steps=2, **several)
    trainer.model.generate = slow(trainer.model.generate, 10)
    trainer.ref_model.forward = slow(trainer.ref_model.forward, 1)
    trainer.advantages = slow(trainer.advantages, 0.25)
    trainer.compute_loss = slow(trainer.compute_loss, 0.5)
    trainer.train()
    lines = [entry for entry in trainer.state.log_history if "time/step" in entry]
    assert [entry["step"] for entry in lines] == [2, 4]
    for entry in lines:
        assert seconds(entry) == {"generate": 5, "reward": 1.5, "log_probs": 1, "credit": 0.125, "update": 1}
        assert entry["time/step"] == 8.625
        assert entry["time_share/reward"] == 1.5 / 8.625
