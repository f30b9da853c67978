"""Nothing of a launch outlives its test: what hangs would hold the cores that the next tests need."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
import pytest

from tests.launch.launcher import MULTI_CPU, environment, launch_command, watched

pytestmark = pytest.mark.launch

# One write a line: `print` makes two, and those of two processes get mixed up.
HANGS = "import os, time; os.write(1, f'process {os.getpid()}\\n'.encode()); time.sleep(600)"


def test_what_hangs_is_killed_with_its_launcher(tmp_path: Path) -> None:
    program, processes = tmp_path / "hangs.py", []
    program.write_text(HANGS, encoding="utf-8")

    def give_up(launcher: subprocess.Popen[str], line: str) -> None:
        if line.startswith("process "):
            processes.append(psutil.Process(int(line.split()[1])))
        if len(processes) == 2:
            processes.append(psutil.Process(launcher.pid))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watched([*launch_command(MULTI_CPU), str(program)], environment(), give_up)
    assert len(processes) == 3
    _, left = psutil.wait_procs(processes, timeout=10)  # where nobody asks for its status, a dead one stays
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]
