"""One global batch, cut in several ways; as a program, one of several processes that share it.

accelerate launch tests/grpo/batches.py POLICY OUTPUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from tests.grpo.conftest import rank_trainer
from tests.grpo.injected import Steps, train_on

# Plain gradients of eight lists: nothing clips or rescales them. The second step is one away from its lists.
WHOLE = {
    "num_generations": 4,
    "max_completion_length": 19,
    "num_iterations": 2,
    "max_steps": 2,
    "learning_rate": 0.3,
    "optim": "sgd",
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "beta": 0.1,
}
RUNS: dict[str, dict[str, Any]] = {
    "rank_grpo": {"preset": "rank_grpo"},
    "one group for all processes": {"preset": "rank_grpo", "num_generations": 8, "ratio": "rank"},
    "scaled by the batch": {"preset": "rank_grpo", "scale_rewards": "batch"},
    "tokens weigh alike": {"preset": "custom", "aggregation": "token"},
    "each reward by itself": {"preset": "rank_grpo", "multi_objective_aggregation": "normalize_then_sum"},
    "no KL where lists are alike": {"preset": "rank_grpo", "kl_cells": "informative"},
    "without cut lists": {"preset": "rank_grpo", "mask_truncated_completions": True},
    "ratio of tokens": {"ratio": "token"},
    "ratio of lists": {"ratio": "sequence"},
    "grpo": {"preset": "grpo"},
}


def cut(accumulation: int, processes: int = 1) -> dict[str, int]:
    """Settings by which each process takes its eighth, quarter or half of the lists in `accumulation` parts."""
    return {
        "per_device_train_batch_size": 8 // accumulation // processes,
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": accumulation,
    }


def run_all(policy: Path, output: Path, accumulation: int, processes: int = 1) -> dict[str, Steps]:
    """What each of `RUNS` does with the batch, cut in one way."""
    settings = {**WHOLE, **cut(accumulation, processes)}
    return {
        name: train_on(rank_trainer(policy, output / name, **{**settings, **changes})) for name, changes in RUNS.items()
    }


def main(policy: str, output: str) -> None:
    """Save what this process, one of two, sees in each run; cut in one part, two and four for each process."""
    for accumulation in (1, 2, 4):
        folder = Path(output) / str(accumulation)
        found = run_all(Path(policy), folder, accumulation, processes=2)
        if torch.distributed.get_rank() == 0:
            torch.save({name: steps.gradients for name, steps in found.items()}, folder / "gradients.pt")
            logs = {name: steps.logs for name, steps in found.items()}
            (folder / "logs.json").write_text(json.dumps(logs), encoding="utf-8")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
