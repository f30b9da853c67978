"""Two real processes on the CPU, joined by gloo, as `accelerate launch` starts them by the shipped configs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

import psutil
import yaml

from tests.recipes.runs import REPOSITORY

CONFIGS = REPOSITORY / "accelerate_configs"
MULTI_CPU = CONFIGS / "multi_cpu.yaml"
ENGINES = ("multi_cpu", "fsdp2", "zero2", "zero3")
# A collective that one process does not take part in waits for ever: that is a failure too. Idle, a launch is done in
# half a minute.
TIMEOUT = 540

React = Callable[[subprocess.Popen[str], str], None]

# What a recipe has to be told on a CPU, by engine. The states that FSDP2 takes over are made in `several.py`.
FLAGS: dict[str, dict[str, Any]] = {
    "multi_cpu": {"use_cpu": True},
    "fsdp2": {"accelerator_config": '{"use_configured_state": true}'},
    "zero2": {"ddp_backend": "gloo"},
    "zero3": {"ddp_backend": "gloo"},
}


def cpu_copy(engine: str, folder: Path) -> Path:
    """A shipped config with what a machine without GPUs needs: 32 bits, and a number of processes."""
    config = yaml.safe_load((CONFIGS / f"{engine}.yaml").read_text(encoding="utf-8"))
    if not config["use_cpu"]:
        config |= {"mixed_precision": "no", "num_processes": 2}
        config.pop("gpu_ids", None)
    path = folder / f"{engine}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def environment(engine: str = "multi_cpu") -> dict[str, str]:
    """One thread for each process, and the CPU as the device of engines that are made for GPUs."""
    devices = {"fsdp2": {"ACCELERATE_TORCH_DEVICE": "cpu"}}
    device = devices.get(engine, {"DS_ACCELERATOR": "cpu"} if engine.startswith("zero") else {})
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **device}


def launch_command(config: Path, *flags: str) -> list[str]:
    """`accelerate launch` by a config; a free port unless the flags name one."""
    port = [] if any(flag.startswith("--main_process_port") for flag in flags) else ["--main_process_port=0"]
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), *port, *flags]


def run_by_two(program: str, *arguments: Path | str, engine: str = "multi_cpu", folder: Path | None = None) -> str:
    """Run a program of `tests` in two processes and wait; what it printed, which is shown if it fails or hangs."""
    config = cpu_copy(engine, folder) if folder else CONFIGS / f"{engine}.yaml"
    return finished([*launch_command(config), f"tests/{program}", *map(str, arguments)], environment(engine))


def finished(command: Sequence[str], env: dict[str, str], folder: Path = REPOSITORY) -> str:
    """What a command printed that ended well."""
    status, printed = watched(command, env, folder=folder)
    assert status == 0, printed
    return printed


def watched(
    command: Sequence[str], env: dict[str, str], react: React = lambda *_: None, folder: Path = REPOSITORY
) -> tuple[int, str]:
    """Run a command, in a session of its own, and react to each line that it prints: exit status, and all it printed.

    What is left of it at the end is killed; all of it, where it takes longer than `TIMEOUT`.
    """
    printed = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        limit = Timer(TIMEOUT, kill, [process.pid])
        limit.start()
        try:
            for line in process.stdout or ():
                printed.append(line)
                react(process, line)
            process.wait()
        finally:
            limit.cancel()
            kill(process.pid)
    assert process.returncode != -signal.SIGKILL, f"not done after {TIMEOUT} s: {''.join(printed)}"
    return process.returncode, "".join(printed)


def kill(launcher: int) -> None:
    """Kill a launcher and its processes. Each of these has a session of its own: no signal to a group reaches all."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(launcher)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.kill()
