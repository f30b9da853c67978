"""Errors that were raised to teach are shown as their message, the others as they are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback

from rankrl.run.errors import TRACEBACK, explain_errors
from rankrl.run.interrupt import train
from rankrl.run.schedule import ScheduleArguments
from rankrl.shards import Shard
from tests.tiny import gpt2_tokenizer, tiny_gpt2


@pytest.fixture(autouse=True)
def _hooked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    for name in (TRACEBACK, "TORCHELASTIC_ERROR_FILE"):
        monkeypatch.delenv(name, raising=False)
    explain_errors()
    return


Shown = Callable[[Callable[[], Any]], str]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    """What Python prints of an error that nobody catches."""

    def show(fails: Callable[[], Any]) -> str:
        with pytest.raises(Exception) as raised:
            fails()
        sys.excepthook(raised.type, raised.value, raised.tb)
        return capsys.readouterr().err

    return show


def of_ours() -> Any:
    return Shard.parse("3/2")


def of_a_library() -> Any:
    return get_peft_model(tiny_gpt2(gpt2_tokenizer()), LoraConfig(target_modules=["q_proj"]))


def test_a_message_of_ours_says_it_all(shown: Shown) -> None:
    assert shown(of_ours).splitlines() == [
        "",
        "error: --shard is '3/2'; expected i/n with i from 1 to n, such as 3/12.",
        "(RANKRL_TRACEBACK=1 shows where it was raised)",
    ]


def test_the_traceback_is_a_setting_away(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACEBACK, "1")
    assert shown(of_ours).startswith("Traceback")


def test_what_a_library_refuses_is_said_with_its_name(shown: Shown) -> None:
    assert "error (peft): Target modules" in shown(of_a_library)


@pytest.mark.parametrize(
    "fails",
    [
        lambda: int("x"),
        lambda: torch.zeros(2) @ torch.zeros(3),
        lambda: Shard.parse(None),  # type: ignore[arg-type] an AttributeError inside ours
        lambda: ScheduleArguments(learning_rate_steps=3),  # type: ignore[arg-type]
        lambda: open("/nowhere/at/all"),  # noqa: SIM115
    ],
)
def test_what_nobody_meant_keeps_its_traceback(fails: Callable[[], Any], shown: Shown) -> None:
    assert shown(fails).startswith("Traceback")


def test_a_library_in_the_middle_of_training_keeps_its_traceback(
    shown: Shown, make_trainer: Callable[..., Trainer]
) -> None:
    class Fail(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            of_a_library()

    assert shown(lambda: train(make_trainer(callbacks=[Fail()]), None)).startswith("Traceback")


def test_of_several_processes_one_speaks(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for process in range(2):
        (tmp_path / str(process)).mkdir()
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", os.fspath(tmp_path / str(process) / "error.json"))
        said.append([shown(of_ours), shown(of_a_library)])
    assert all(said[0])
    assert said[1] == ["", ""]
