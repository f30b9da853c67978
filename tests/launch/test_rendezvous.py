"""Two launchers on one machine meet at an address, as those of two machines do by `multi_node.yaml`."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import pytest
import torch

from tests.launch.launcher import cpu_copy, environment, finished, launch_command
from tests.launch.recipes import BATCH, log_probs, losses, run_alone, settings_of
from tests.recipes.runs import Files, flags

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
    commands = [
        [*launch_command(config, *meeting, f"--machine_rank={rank}"), "recipes/sft.py", *words] for rank in range(2)
    ]
    with ThreadPoolExecutor() as pool:
        list(pool.map(finished, commands, repeat(environment())))

    alone = run_alone("sft", files, policy, tmp_path / "alone")
    assert losses(tmp_path / "sft") == pytest.approx(losses(alone), rel=1e-5)
    torch.testing.assert_close(log_probs(tmp_path / "sft"), log_probs(alone), rtol=0, atol=1e-5)
