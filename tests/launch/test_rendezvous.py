"""Two launchers on one machine meet at an address, as those of two machines do by `multi_node.yaml`."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
import torch

from tests.launch.launcher import TIMEOUT, cpu_copy, environment, launch_command
from tests.launch.recipes import BATCH, losses, run_alone, settings_of, weights
from tests.recipes.runs import REPOSITORY, Files, flags

pytestmark = pytest.mark.launch


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_launchers_train_one_model(files: Files, policy: Path, tmp_path: Path) -> None:
    """A process each; what they train is what one process trains with the whole batch."""
    config = cpu_copy("multi_node", tmp_path)
    meeting = ["--main_process_ip=127.0.0.1", f"--main_process_port={free_port()}", "--num_machines=2"]
    settings = settings_of("sft", files, policy, tmp_path)
    words = flags(**settings | {"use_cpu": True, "per_device_train_batch_size": BATCH // 2})
    launchers = [
        subprocess.Popen(
            [*launch_command(config, *meeting, f"--machine_rank={rank}"), "recipes/sft.py", *words],
            cwd=REPOSITORY,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        printed = [launcher.communicate(timeout=TIMEOUT)[0] for launcher in launchers]
    finally:
        for launcher in launchers:
            launcher.kill()
    assert [launcher.returncode for launcher in launchers] == [0, 0], "\n".join(printed)

    alone = run_alone("sft", files, policy, tmp_path / "alone")
    assert losses(tmp_path / "sft") == pytest.approx(losses(alone), rel=1e-5)
    wanted = weights(alone)
    for name, value in weights(tmp_path / "sft").items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-5)
