"""Every accelerate config loads, and starts what its file says it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.utils import DistributedType

CONFIGS = Path(__file__).resolve().parents[2] / "accelerate_configs"

# Each process adds its number, counted from 1, and writes down the sum: 3 only if two processes found each other.
PROBE = """
import sys
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from transformers import TrainingArguments

TrainingArguments(output_dir="unused", use_cpu=True, report_to="none")
state = PartialState()
total = reduce(torch.tensor(state.process_index + 1.0), reduction="sum")
with open(f"{sys.argv[1]}/{state.process_index}", "w") as file:
    file.write(f"{state.num_processes} {state.device.type} {total.item():g}")
state.wait_for_everyone()
state.destroy_process_group()
"""


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_loads_and_says_when_to_use_it(path: Path) -> None:
    config = load_config_from_file(str(path))  # refuses unknown keys
    assert isinstance(config, ClusterConfig)
    comment = "".join(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    assert f"--config_file accelerate_configs/{path.name}" in comment


@pytest.mark.parametrize(
    ("name", "distributed", "processes", "on_cpu"),
    [
        ("cpu", DistributedType.NO, 1, True),
        ("multi_cpu", DistributedType.MULTI_GPU, 2, True),
        ("single_gpu", DistributedType.NO, 1, False),
        ("multi_gpu", DistributedType.MULTI_GPU, -1, False),  # -1: accelerate asks for --num_processes
    ],
)
def test_says_what_it_starts(name: str, distributed: DistributedType, processes: int, on_cpu: bool) -> None:
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert (config.distributed_type, config.num_processes, config.use_cpu) == (distributed, processes, on_cpu)


def test_two_cpu_processes_find_each_other(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(PROBE, encoding="utf-8")
    (tmp_path / "received").mkdir()
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / "multi_cpu.yaml")]
    result = subprocess.run(
        [*launch, "--main_process_port", "0", "probe.py", "received"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    received = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "received").iterdir()}
    assert received == {"0": "2 cpu 3", "1": "2 cpu 3"}
