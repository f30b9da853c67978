"""One row of the numbers that matter at every logging step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.utils.logging import is_progress_bar_enabled

from rankrl.run.console import RANK_GRPO_COLUMNS, SFT_COLUMNS, ConsoleCallback, time_split

COLUMNS = {"loss": "loss", "hit": "hit/all"}


def log(callback: ConsoleCallback, step: int, *, main: bool = True, **logs: float) -> None:
    state = TrainerState(global_step=step, max_steps=100, is_world_process_zero=main)
    callback.on_log(None, state, TrainerControl(), logs=logs)


def test_a_row_holds_step_numbers_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = ConsoleCallback(COLUMNS)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    callback.on_train_begin(None, TrainerState(global_step=20, max_steps=100), TrainerControl())  # resumed at 20
    monkeypatch.setattr(time, "monotonic", lambda: 1010.0)  # ten seconds for ten steps, seventy to go
    log(callback, 30, **{"loss": 1.23456, "hit/all": 0.05, "epoch": 2.0})

    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["step", "loss", "hit", "time", "left"]
    assert row.split() == ["30/100", "1.235", "0.05", "1:10"]
    assert len(heading) == len(row)


def test_a_number_that_is_missing_is_left_blank(capsys: pytest.CaptureFixture[str]) -> None:
    callback = ConsoleCallback(COLUMNS)
    log(callback, 1, **{"hit/all": 0.5})
    heading, row = capsys.readouterr().out.splitlines()
    loss, hit = (heading.index(name) + len(name) for name in COLUMNS)  # where the columns end
    assert row[:loss].split() == ["1/100"]
    assert row[loss:hit].split() == ["0.5"]


def test_the_heading_comes_again_every_twenty_rows(capsys: pytest.CaptureFixture[str]) -> None:
    callback = ConsoleCallback(COLUMNS)
    for step in range(41):
        log(callback, step, loss=1.0)
    lines = capsys.readouterr().out.splitlines()
    assert [number for number, line in enumerate(lines) if "loss" in line] == [0, 21, 42]


@pytest.mark.parametrize("silent", [{"main": False, "loss": 1.0}, {"train_runtime": 3.0}, {}])
def test_says_nothing_where_there_is_nothing_to_say(silent: dict, capsys: pytest.CaptureFixture[str]) -> None:
    log(ConsoleCallback(COLUMNS), 1, **silent)
    assert capsys.readouterr().out == ""


def test_takes_the_place_of_the_trainers_own_progress(
    make_trainer: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    for quiet in (True, False):
        trainer = make_trainer(disable_tqdm=quiet)
        ConsoleCallback.install(trainer, COLUMNS)
        trainer.train()
    printed = capsys.readouterr()
    assert "{'loss'" not in printed.out + printed.err
    assert "it/s" not in printed.out + printed.err
    assert printed.out.count("loss") == 2


def test_no_bar_of_a_checkpoint_cuts_the_table(make_trainer: Callable[..., Trainer]) -> None:
    class Look(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            seen.append(is_progress_bar_enabled())

    seen: list[bool] = []
    trainer = make_trainer(callbacks=[Look()])
    ConsoleCallback.install(trainer, COLUMNS)
    trainer.train()
    assert seen == [False] * 4
    assert is_progress_bar_enabled()  # models are loaded with one


def test_rank_grpo_shows_eight_numbers() -> None:
    assert len(RANK_GRPO_COLUMNS) == 8
    assert "loss" in SFT_COLUMNS


def test_the_end_says_where_the_time_went(capsys: pytest.CaptureFixture[str]) -> None:
    history = [
        {"step": 1, "time/step": 8.0, "time/generate": 6.0, "time/log_probs": 2.0},
        {"step": 1, "validation": 0.5},
        {"step": 4, "time/step": 4.0, "time/generate": 2.0, "time/log_probs": 2.0},  # of three steps
        {"step": 4, "train_runtime": 20.0},
    ]
    line = "a step took 5 s: generate 60 %, log probs 40 %"
    assert time_split(history) == line
    for main in (True, False):
        state = TrainerState(log_history=history, is_world_process_zero=main)
        ConsoleCallback(COLUMNS).on_train_end(None, state, TrainerControl())
    assert capsys.readouterr().out == f"{line}\n"


def test_no_times_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleCallback(COLUMNS).on_train_end(None, TrainerState(log_history=[{"step": 1, "loss": 2.0}]), TrainerControl())
    assert capsys.readouterr().out == ""
