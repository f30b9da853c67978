"""Several command lines of the recipes, one after the other, in one group of processes: a launch costs ten seconds.

accelerate launch tests/launch/several.py RUNS.json

Each run is a recipe's file with its words, and what to copy from an earlier run before it starts, if it resumes.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch import distributed
from transformers import set_seed


def make_ready_for_cpus() -> None:
    """Let the engine that the launcher names work on CPUs.

    accelerate has no FSDP there: it would be plain data parallelism, without a word. So the state is made here, and the
    runs are told to take it over (`use_configured_state`). DeepSpeed would compile an operator for a minute that only
    inference calls.
    """
    if "ACCELERATE_USE_FSDP" in os.environ:
        PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU
    if "ACCELERATE_USE_DEEPSPEED" in os.environ:
        from deepspeed import ops

        ops.__compatible_ops__["deepspeed_shm_comm"] = False


def run_all(runs: list[dict[str, Any]]) -> None:
    """Run them in turn; the first that fails ends the program."""
    for run in runs:
        if run["copy"] and PartialState().is_main_process:
            shutil.copytree(*run["copy"])
        if distributed.is_initialized():
            distributed.barrier()
        AcceleratorState._reset_state()  # each run has settings of its own, as if it had been launched alone
        make_ready_for_cpus()
        set_seed(0)  # a new adapter is drawn before a trainer sets its seed
        sys.argv = [run["recipe"], *run["words"]]
        print(*sys.argv, flush=True)
        runpy.run_path(run["recipe"], run_name="__main__")


if __name__ == "__main__":
    run_all(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    distributed.destroy_process_group()
