"""One step of dynamic sampling as a process of its own; `test_dynamic_sampling.py` starts two of them.

The lists of process 1 all earn the same, whatever is drawn. What each process sees goes to `process_{index}.pt`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import AutoModelForCausalLM, AutoTokenizer

from rankrl.grpo import RankGRPOConfig, RankGRPOTrainer
from tests.grpo.conftest import NUM_RANKS, SETTINGS, prompts


def process_0_pays(completions: list[str], **columns: Any) -> list[list[float]]:
    first = PartialState().is_main_process
    return [[float(i + 1) * first, 0.0, 1.0] for i, _ in enumerate(completions)]


def main(policy: str, output: str) -> None:
    args = RankGRPOConfig(
        output,
        **{**SETTINGS, "max_steps": 1, "ddp_backend": "gloo"},
        num_ranks=NUM_RANKS,
        dynamic_sampling_rounds=5,
    )
    trainer = RankGRPOTrainer(
        AutoModelForCausalLM.from_pretrained(policy),
        process_0_pays,
        args,
        train_dataset=prompts(),
        processing_class=AutoTokenizer.from_pretrained(policy),
    )
    trainer.train()
    (lists,) = trainer._buffered_inputs
    seen = {
        "lists": lists,
        "cursor": trainer._dynamic_sampling.stream.cursor,
        "log": trainer.state.log_history[0] if trainer.is_world_process_zero() else None,
        "weights": trainer.accelerator.unwrap_model(trainer.model).state_dict(),
    }
    torch.save(seen, Path(output) / f"process_{trainer.accelerator.process_index}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
