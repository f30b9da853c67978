"""A signal ends training after the step under way, with a checkpoint; a second one ends it at once."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer, TrainerCallback

from rankrl.run import interrupt
from rankrl.run.interrupt import train


class Press(TrainerCallback):
    """Sends a signal to this process when a step begins, as often as asked."""

    def __init__(self, number: int, times: int = 1) -> None:
        self.number = number
        self.times = times

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 1:
            for _ in range(self.times):
                signal.raise_signal(self.number)


@pytest.fixture(autouse=True)
def _handlers_are_given_back() -> Iterator[None]:
    # A shell's background job ignores Ctrl-C, and so would these tests.
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, outside)
    assert after == before


def checkpoints(trainer: Trainer) -> list[str]:
    return sorted(path.name for path in Path(trainer.args.output_dir).glob("checkpoint-*"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_after_the_step_under_way(
    number: int, status: int, make_trainer: Callable[..., Trainer], capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(callbacks=[Press(number)])
    with pytest.raises(SystemExit) as stopped:
        train(trainer, None)

    assert stopped.value.code == status
    assert checkpoints(trainer) == ["checkpoint-2"]
    assert "stopped after step 2 of 4. The same command with --resume_from_checkpoint latest" in capsys.readouterr().out


def test_the_run_goes_on_from_there(make_trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(SystemExit):
        train(make_trainer(callbacks=[Press(signal.SIGINT)]), None)
    resumed = make_trainer()
    train(resumed, str(Path(resumed.args.output_dir) / "checkpoint-2"))
    straight = make_trainer("straight")
    train(straight, None)
    assert resumed.state.global_step == 4
    assert resumed.model.weight.tolist() == straight.model.weight.tolist()


def test_a_second_ctrl_c_stops_at_once_without_saving(
    make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupt, "SAME_PRESS", -1.0)
    trainer = make_trainer(callbacks=[Press(signal.SIGINT, times=2)])
    with pytest.raises(KeyboardInterrupt):
        train(trainer, None)
    assert checkpoints(trainer) == []


def test_a_second_sigterm_too(make_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "SAME_PRESS", -1.0)
    trainer = make_trainer(callbacks=[Press(signal.SIGTERM, times=2)])
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by the system"))
    with pytest.raises(SystemExit, match="ended by the system"):
        train(trainer, None)
    signal.signal(signal.SIGTERM, before)
    assert checkpoints(trainer) == []


def test_a_ctrl_c_that_the_launcher_passes_on_is_the_same_one(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer(callbacks=[Press(signal.SIGINT, times=3)])
    with pytest.raises(SystemExit):
        train(trainer, None)
    assert checkpoints(trainer) == ["checkpoint-2"]


def test_an_undisturbed_run_ends_by_itself(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer()
    train(trainer, None)
    assert trainer.state.global_step == 4
    assert checkpoints(trainer) == []


def test_a_run_at_its_end_is_not_trained_further(
    make_trainer: Callable[..., Trainer], caplog: pytest.LogCaptureFixture
) -> None:
    train(first := make_trainer(save_strategy="steps", save_steps=2), None)
    end = Path(first.args.output_dir) / "checkpoint-4"
    with caplog.at_level(logging.INFO, "rankrl"):
        train(again := make_trainer(), str(end))
    assert "nothing is left to train" in caplog.text
    assert again.state.global_step == 4
    assert again.model.weight.tolist() == first.model.weight.tolist()
    state = json.loads((end.parent / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["log_history"] == first.state.log_history, "with what was logged after the last checkpoint"
    further = make_trainer(max_steps=5)
    train(further, str(end))
    assert further.state.global_step == 5, "more steps than before go on"


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), ConnectionError("the server of the lists is gone")])
def test_an_error_in_training_gives_the_signals_back(error: Exception, make_trainer: Callable[..., Trainer]) -> None:
    class Fail(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            raise error

    with pytest.raises(type(error), match=str(error)):
        train(make_trainer(callbacks=[Fail()]), None)
