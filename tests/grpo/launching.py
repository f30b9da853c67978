"""Two real processes, joined by gloo, as `accelerate launch` starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.recipes.runs import REPOSITORY


def run_by_two(program: str, *arguments: Path) -> None:
    """Run a program of `tests/grpo` in two processes and wait; its output is shown if it fails."""
    config = ["--config_file", "accelerate_configs/multi_cpu.yaml", "--main_process_port=0"]
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *config, f"tests/grpo/{program}", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
