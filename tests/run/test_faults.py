"""A full disk and a killed process: what is left is whole, the message says what it is, and the run goes on from it."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed
from transformers import Trainer, TrainerCallback

from rankrl.run.checkpoints import KeepCheckpoints, whole_checkpoints
from rankrl.run.faults import ProcessLostError, explain_faults, is_disk_full, is_process_lost
from rankrl.run.interrupt import train
from tests.launch.launcher import MULTI_CPU, environment, launch_command, watched

# ---- A full disk: the largest file that this process may write stands in for it --------------------------------------


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let files grow to so many bytes, as a quota does. Python ignores the signal, so that writing fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


TENSORS = {"weight": torch.zeros(100_000)}
WRITERS: dict[str, Callable[[Path], Any]] = {
    "safetensors": lambda path: save_file(TENSORS, path),
    "torch": lambda path: torch.save(TENSORS, path),
    "text": lambda path: path.write_text("x" * 100_000),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_of_a_checkpoint_is_understood(writer: str, tmp_path: Path) -> None:
    with room_for(50_000), pytest.raises(Exception) as raised:
        WRITERS[writer](tmp_path / "file")
    assert is_disk_full(raised.value), repr(raised.value)


@pytest.mark.parametrize("error", [FileNotFoundError(2, "no such file"), RuntimeError("CUDA error"), KeyError("x")])
def test_other_errors_are_no_full_disk(error: Exception) -> None:
    assert not is_disk_full(error)


class Fill(TrainerCallback):
    """Fills the disk up after a step, but for files of `size` bytes; names the first step as the best."""

    def __init__(self, step: int, size: int) -> None:
        self.step = step
        self.size = size

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 1:
            state.best_global_step = 1
        if state.global_step == self.step:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, hard))


# Enough for nothing, for the weights, for all but the random state.
@pytest.mark.parametrize("size", [16, 3_000, 10_000])
def test_the_last_good_checkpoint_and_the_best_stay(size: int, make_trainer: Callable[..., Trainer]) -> None:
    saving = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    trainer = make_trainer(callbacks=[Fill(3, size)], **saving)
    KeepCheckpoints.install(trainer, "hub/name", None)
    folder = Path(trainer.args.output_dir)
    with (
        room_for(resource.RLIM_INFINITY),
        pytest.raises(
            OSError, match=r"no room left to write.*checkpoint-3 was not written to its end: delete it"
        ) as said,
    ):
        train(trainer, None)
    assert f"The newest checkpoint is {folder}/checkpoint-2, and the best in {folder}/checkpoint-1." in str(said.value)
    assert whole_checkpoints(folder) == [1, 2]
    assert load_file(folder / "best" / "model.safetensors").keys() == {"weight"}

    resumed = make_trainer(**saving)
    KeepCheckpoints.install(resumed, "hub/name", None)
    train(resumed, str(folder / "checkpoint-2"))
    straight = make_trainer("straight")
    train(straight, None)
    assert resumed.model.weight.tolist() == straight.model.weight.tolist()


# ---- Several processes -----------------------------------------------------------------------------------------------

GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] "


@pytest.fixture
def _joined() -> Iterator[None]:
    """This process is a group, of one."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def never_set() -> None:
    distributed.HashStore().wait(["key"], timedelta(milliseconds=10))


def fail(error: Exception) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


@pytest.mark.usefixtures("_joined")
@pytest.mark.parametrize(
    ("exchange", "kind", "said"),
    [
        (
            fail(RuntimeError(f"{GLOO}Connection closed by peer [127.0.0.1]:38215\nmore")),
            ProcessLostError,
            r"has ended.*no checkpoint.*The exchange said: \[.*Connection closed by peer \[127.0.0.1\]:38215$",
        ),
        (
            fail(distributed.DistBackendError("NCCL error in: x.cpp:1\nncclRemoteError: A call failed")),
            ProcessLostError,
            r"has ended.*The exchange said: NCCL error in: x.cpp:1$",
        ),
        (
            fail(RuntimeError(f"{GLOO}Timed out waiting 30000ms for recv operation to complete")),
            TimeoutError,
            r"waited for too long.*ddp_timeout allows \(30 s\).*Timed out waiting 30000ms",
        ),
        (never_set, TimeoutError, r"waited for too long.*The exchange said: Wait timeout$"),
        (
            fail(distributed.DistBackendError("ncclInvalidUsage: Duplicate GPU detected")),
            distributed.DistBackendError,
            "^ncclInvalidUsage: Duplicate GPU detected$",
        ),
        (fail(RuntimeError(f"{GLOO}Invalid tensor")), RuntimeError, "Invalid tensor$"),
        (fail(OSError("a server: Connection reset by peer")), OSError, "^a server"),
    ],
)
def test_what_an_exchange_says(exchange: Callable[[], None], kind: type, said: str, tmp_path: Path) -> None:
    """Lost, late, or a mistake that is shown as it is."""
    args = SimpleNamespace(output_dir=tmp_path, ddp_timeout=30)
    with pytest.raises(kind, match=said) as raised, explain_faults(args):
        exchange()
    assert type(raised.value) is kind


def test_alone_nobody_is_lost() -> None:
    assert not is_process_lost(RuntimeError(f"{GLOO}Connection closed by peer"))


def launch(folder: Path, *flags: str, terminate_at: str | None = None) -> tuple[int, str]:
    """Run `slope.py` in two processes, its launcher sent SIGTERM after a line: exit status, what it printed."""

    def terminate(launcher: subprocess.Popen[str], line: str) -> None:
        if line.strip() == terminate_at:
            launcher.send_signal(signal.SIGTERM)

    command = [*launch_command(MULTI_CPU), "tests/run/slope.py", str(folder), *flags]
    return watched(command, environment(), terminate)


@pytest.mark.launch
def test_a_killed_process_and_a_scheduler_cost_nothing(tmp_path: Path, make_trainer: Callable[..., Trainer]) -> None:
    folder = tmp_path / "run"
    status, printed = launch(folder, "--die", "3")  # while step 4 is under way
    assert status != 0
    assert "another process of this launch has ended" in printed
    assert f"The newest checkpoint is {folder}/checkpoint-2. The same command" in printed
    assert "Signal 9 (SIGKILL)" in printed, "torch's launcher says who was first"
    assert whole_checkpoints(folder) == [2]

    status, printed = launch(folder, "--slow", "1", terminate_at="step 3")
    stopped = re.search(r"stopped after step (\d) of 8", printed)
    assert stopped, printed
    assert status != 0, "the run is not finished: what depends on it must not start"
    assert whole_checkpoints(folder) == [int(stopped[1])]
    assert not (folder / "model.safetensors").exists()

    status, printed = launch(folder)
    assert status == 0, printed
    straight = make_trainer("straight", max_steps=8, learning_rate=0.1)  # the same batches in one process
    train(straight, None)
    torch.testing.assert_close(load_file(folder / "model.safetensors")["weight"], straight.model.weight.detach())
