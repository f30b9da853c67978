"""Alarms ring once on made-up logs of collapse, and are silent on the figures of healthy runs."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState

from rankrl.run.alarms import AlarmArguments, Alarms

KEYS = ("entropy/all", "kl/all", "repeat/all", "in_catalog/all", "list_length", "informative/all")
# `make demo`, seed 0, K = 10: the first line of the log, one in the middle, the last one.
DEMO = [
    (0.747, 0.000, 0.080, 0.984, 9.99, 0.445),
    (0.635, 0.298, 0.145, 0.933, 9.89, 0.401),
    (0.661, 0.362, 0.122, 0.920, 10.04, 0.419),
]


def replay(lines: list[dict[str, float]], **settings: Any) -> TrainerControl:
    """Log the lines as a trainer does."""
    alarms = Alarms(AlarmArguments(**settings), num_ranks=10)
    state, control = TrainerState(is_world_process_zero=True), TrainerControl()
    for step, line in enumerate(lines, start=1):
        state.global_step = step
        state.log_history.append({**line, "step": step})
        alarms.on_log(None, state, control, logs=line)
    return control


def healthy(**changed: float) -> dict[str, float]:
    return {**dict(zip(KEYS, DEMO[0], strict=True)), **changed}


def test_a_healthy_run_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    lines = [dict(zip(KEYS, values, strict=True)) for values in DEMO for _ in range(8)]
    control = replay(lines, stop_on_alarm=True)
    assert not control.should_training_stop
    assert not caplog.records


@pytest.mark.parametrize(
    ("key", "last_healthy", "broken", "said"),
    [
        ("informative/all", 0.15, 0.14, ["at least 0.147", "began at 0.445", "More dialogues"]),  # 0.33 of 0.445
        ("entropy/all", 0.15, 0.14, ["at least 0.149", "began at 0.747", "learning rate"]),  # a fifth of 0.747 is 0.149
        ("kl/all", 1.5, 1.51, ["at most 1.5", "beta"]),
        ("repeat/all", 0.33, 0.34, ["at most 0.33", "repeat_penalty"]),  # 0.08 + 0.25
        ("in_catalog/all", 0.79, 0.78, ["at least 0.784", "beta"]),  # 0.984 - 0.2
        ("list_length", 7.5, 7.4, ["at least 7.49", "early_stop_penalty"]),  # 9.99 - a quarter of 10
        ("list_length", 12.5, 12.6, ["at most 12.5", "overflow_penalty"]),  # K and a quarter of it
        ("kl/all", 0.1, float("nan"), ["nan", "at most 1.5"]),
    ],
)
def test_an_alarm_rings_once_beyond_its_limit(
    key: str, last_healthy: float, broken: float, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    replay([healthy()] + [healthy(**{key: last_healthy})] * 9)
    assert not caplog.records
    control = replay([healthy()] + [healthy(**{key: broken})] * 9)

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert all(text in record.message for text in ["step 4", key, *said]), record.message
    assert not control.should_training_stop, "it only warns unless told"


def test_one_or_two_lines_are_noise(caplog: pytest.LogCaptureFixture) -> None:
    replay([healthy(**{"kl/all": kl}) for kl in (0.1, 9, 9, 0.1, 9, 9, 0.1)])
    assert not caplog.records


def test_lists_that_come_nearer_to_k_are_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    for first in (4.0, 30.0):
        replay([healthy(list_length=first), *[healthy(list_length=10.0)] * 5])
    assert not caplog.records


def test_it_stops_and_saves_when_asked() -> None:
    lines = [healthy(**{"kl/all": 9.0})] * 2
    control = replay(lines, stop_on_alarm=True)
    assert not control.should_training_stop
    control = replay([*lines, *lines], stop_on_alarm=True)
    assert control.should_training_stop
    assert control.should_save


def test_a_resumed_run_is_measured_by_its_first_beginning(caplog: pytest.LogCaptureFixture) -> None:
    state = TrainerState(is_world_process_zero=True, global_step=9)
    state.log_history = [healthy(), *[healthy(**{"entropy/all": 0.1})] * 2, {"valid/ndcg@10": 0.3}]
    alarms = Alarms(AlarmArguments(), num_ranks=10)
    logs = healthy(**{"entropy/all": 0.1})
    state.log_history.append(logs)
    alarms.on_log(None, state, TrainerControl(), logs=logs)
    assert len(caplog.records) == 1


def test_other_lines_and_rewards_that_see_no_items_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    replay([{"kl/all": 0.1}, {"train_runtime": 3.0}, {}, {"kl/all": 0.2}, {"kl/all": 0.1}])
    assert not caplog.records


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kl_ceiling": -1}, "kl_ceiling is -1; expected 0 or more"),
        ({"entropy_floor": 1}, "entropy_floor is 1; expected a share"),
        ({"informative_floor": 1.5}, "informative_floor is 1.5; expected a share"),
    ],
)
def test_limits_out_of_range_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AlarmArguments(**settings)
