"""Dynamic sampling by two processes of which only the first finds anything: as a program, one of the two.

accelerate launch tests/grpo/sampling_by_two.py POLICY OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from tests.grpo.conftest import rank_trainer


def process_0_pays(completions: list[str], **columns: Any) -> list[list[float]]:
    """Tells the lists of process 0 apart at the first rank; those of process 1 all earn the same."""
    paid = PartialState().is_main_process
    return [[float(i + 1) * paid, 0.0, 1.0] for i, _ in enumerate(completions)]


def main(policy: str, output: str) -> None:
    """Train two steps; then the second one again, from the checkpoint after the first. Save what this process has."""
    settings = {"dynamic_sampling_rounds": 5, "save_strategy": "steps", "save_steps": 1, "save_total_limit": None}

    def build(name: str) -> Any:
        return rank_trainer(Path(policy), Path(output) / name, reward_funcs=process_0_pays, **settings)

    straight, resumed = build("straight"), build("resumed")
    straight.train()
    resumed.train(resume_from_checkpoint=str(Path(output) / "straight" / "checkpoint-1"))
    index = straight.accelerator.process_index
    for name, trainer in (("straight", straight), ("resumed", resumed)):
        seen = {
            "lists": trainer._buffered_inputs[0],
            "cursor": trainer._dynamic_sampling.stream.cursor,
            "logs": trainer.state.log_history,
            "weights": trainer.accelerator.unwrap_model(trainer.model).state_dict(),
        }
        torch.save(seen, Path(output) / f"{name}_{index}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
