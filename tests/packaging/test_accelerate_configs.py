"""Every accelerate config loads, and starts what its file says it starts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.utils import DistributedType

from tests.launch.launcher import CONFIGS, MULTI_CPU, environment, finished, launch_command

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
        ("zero2", DistributedType.DEEPSPEED, -1, False),
        ("zero3", DistributedType.DEEPSPEED, -1, False),
        ("fsdp2", DistributedType.FSDP, -1, False),
        ("multi_node", DistributedType.MULTI_GPU, 16, False),
    ],
)
def test_says_what_it_starts(name: str, distributed: DistributedType, processes: int, on_cpu: bool) -> None:
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert (config.distributed_type, config.num_processes, config.use_cpu) == (distributed, processes, on_cpu)


def test_every_config_is_in_the_table() -> None:
    (table,) = (mark for mark in test_says_what_it_starts.pytestmark if mark.name == "parametrize")
    assert {case[0] for case in table.args[1]} == {path.stem for path in CONFIGS.glob("*.yaml")}


def test_the_spread_ones_spread_what_they_say() -> None:
    two, three, fsdp = (load_config_from_file(str(CONFIGS / f"{name}.yaml")) for name in ("zero2", "zero3", "fsdp2"))
    assert (two.deepspeed_config["zero_stage"], three.deepspeed_config["zero_stage"]) == (2, 3)
    assert fsdp.fsdp_config["fsdp_version"] == 2
    assert three.deepspeed_config["zero3_save_16bit_model"], "or what is saved loads nowhere"
    assert fsdp.fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"


def test_offloading_is_two_lines_to_switch_on(tmp_path: Path) -> None:
    text = (CONFIGS / "zero3.yaml").read_text(encoding="utf-8")
    (tmp_path / "zero3.yaml").write_text(text.replace("  # offload_", "  offload_"), encoding="utf-8")
    config = load_config_from_file(str(tmp_path / "zero3.yaml")).deepspeed_config
    assert (config["offload_optimizer_device"], config["offload_param_device"]) == ("cpu", "cpu")


def test_machines_meet_at_the_address_that_is_given() -> None:
    """accelerate takes the address for the rendezvous only where the machines are not said to share a network."""
    config = load_config_from_file(str(CONFIGS / "multi_node.yaml"))
    assert (config.num_machines, config.rdzv_backend, config.same_network) == (2, "c10d", False)


def test_the_slurm_script_starts_that_config_with_the_right_numbers(tmp_path: Path) -> None:
    """Two machines with eight GPUs each; stubs of Slurm's programs run the last command as srun would, as machine 1."""
    (tmp_path / "scontrol").write_text("#!/bin/bash\necho node0; echo node1\n")
    (tmp_path / "srun").write_text('#!/bin/bash\nshift\nSLURM_NODEID=1 exec "$@"\n')
    (tmp_path / "accelerate").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    for program in tmp_path.iterdir():
        program.chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node[0-1]", "SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "8"}
    words = subprocess.run(
        ["bash", str(CONFIGS / "multi_node.slurm"), "--config", "a file.yaml"],
        env={**slurm, "PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert words[:3] == ["launch", "--config_file", "accelerate_configs/multi_node.yaml"]
    flags = dict(zip(words[1:13:2], words[2:14:2], strict=True))
    assert (flags["--num_machines"], flags["--num_processes"], flags["--machine_rank"]) == ("2", "16", "1")
    assert (flags["--main_process_ip"], flags["--main_process_port"]) == ("node0", "20007")
    assert words[-5:] == ["recipes/rank_grpo.py", "--resume_from_checkpoint", "latest", "--config", "a file.yaml"]


@pytest.mark.launch
def test_two_cpu_processes_find_each_other(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(PROBE, encoding="utf-8")
    (tmp_path / "received").mkdir()
    finished([*launch_command(MULTI_CPU), "probe.py", "received"], environment(), tmp_path)
    received = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "received").iterdir()}
    assert received == {"0": "2 cpu 3", "1": "2 cpu 3"}
