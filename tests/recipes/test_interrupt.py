"""Ctrl-C loses nothing: a recipe saves, says how to go on, and ends where it would have ended without it.

A full disk ends it in words, too.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.trainer_utils import get_last_checkpoint

from recipes import sft
from tests.launch.launcher import MULTI_CPU, launch_command, watched
from tests.recipes.runs import REPOSITORY, SMALL, Files, flags, installed, run

STEPS = 60
SAVING = {"max_steps": STEPS, "save_strategy": "steps", "save_steps": 1000, "learning_rate": 1e-2}


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(directory).state_dict()


@pytest.fixture(scope="module")
def settings(files: Files, policy: Path) -> dict[str, Any]:
    return {**files.training, **SMALL, **SAVING, "model_name_or_path": policy}


@pytest.fixture(scope="module")
def interrupted(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """`python recipes/sft.py`, stopped by Ctrl-C after its first step: directory, exit status, what it printed."""
    folder = tmp_path_factory.mktemp("interrupted")
    command = [sys.executable, "recipes/sft.py", *flags(**settings, output_dir=folder / "sft")]
    return folder / "sft", *press_ctrl_c(command, folder)


def press_ctrl_c(command: list[str], folder: Path) -> tuple[int, str]:
    """Run a recipe and press Ctrl-C after its first step, as a terminal does: exit status, what it printed."""

    def press(process: subprocess.Popen[str], line: str) -> None:
        if re.match(rf"\s+1/{STEPS}\s", line):
            os.killpg(process.pid, signal.SIGINT)

    return watched(command, installed(folder / "packages"), press)


def test_it_stops_at_the_next_step_with_a_checkpoint(interrupted: tuple[Path, int, str]) -> None:
    directory, status, printed = interrupted
    assert status == 130, printed
    stopped = int(re.search(r"stopped after step (\d+) of 60", printed)[1])
    assert Path(get_last_checkpoint(directory)).name == f"checkpoint-{stopped}"
    assert stopped < STEPS
    assert "--resume_from_checkpoint latest" in printed
    assert not (directory / "model.safetensors").exists(), "an unfinished stage must not look finished"


def test_going_on_ends_with_the_weights_of_an_uninterrupted_run(
    interrupted: tuple[Path, int, str], settings: dict[str, Any], tmp_path: Path
) -> None:
    directory, _, _ = interrupted
    run(sft, **settings, output_dir=directory, resume_from_checkpoint="latest")
    run(sft, **settings, output_dir=tmp_path)

    resumed, straight = weights(directory), weights(tmp_path)
    assert resumed.keys() == straight.keys()
    for name, value in straight.items():
        assert torch.equal(value, resumed[name]), f"{name} differs after the interruption"


def test_a_checkpoint_of_another_prompt_does_not_go_on(
    interrupted: tuple[Path, int, str], settings: dict[str, Any]
) -> None:
    other = {**settings, "num_ranks": 2, "output_dir": interrupted[0], "resume_from_checkpoint": "latest"}
    with pytest.raises(ValueError, match=r"trained on another prompt.*different: num_ranks"):
        run(sft, **other)


@pytest.mark.launch
def test_processes_stop_together_after_the_same_step(settings: dict[str, Any], tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to the launcher, which passes it on."""
    training = flags(**settings, output_dir=tmp_path / "sft", ddp_backend="gloo")
    status, printed = press_ctrl_c([*launch_command(MULTI_CPU), "recipes/sft.py", *training], tmp_path)
    stopped = re.search(r"stopped after step (\d+) of 60", printed)
    assert stopped, printed
    assert status != 0
    resumed = run_state(tmp_path / "sft" / f"checkpoint-{stopped[1]}")
    assert resumed["global_step"] == int(stopped[1]) < STEPS


def run_state(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))


def test_latest_begins_anew_where_there_is_no_checkpoint(files: Files, policy: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "model_name_or_path": policy, "output_dir": tmp_path}
    run(sft, **files.training, **settings, resume_from_checkpoint="latest")
    assert weights(tmp_path)


def test_a_full_disk_ends_in_words(settings: dict[str, Any], tmp_path: Path) -> None:
    """No file may grow beyond 100 kB, which the weights do."""
    full = {**settings, "save_steps": 1, "output_dir": tmp_path / "sft"}
    done = subprocess.run(
        [sys.executable, "recipes/sft.py", *flags(**full)],
        cwd=REPOSITORY,
        env=installed(tmp_path / "packages"),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    words = done.stderr[done.stderr.index("error: there is no room left to write in") :]
    assert "checkpoint-1 was not written to its end: delete it." in words
    assert "There is no checkpoint in" in words
    assert len(words.splitlines()) == 2
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
