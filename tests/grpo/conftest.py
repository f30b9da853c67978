"""A tiny policy on disk, prompts, and a reward that differs from line to line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from rankrl.grpo import RankGRPOConfig, RankGRPOTrainer
from tests import tiny

NUM_RANKS = 3


@pytest.fixture(scope="session")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("policy")
    tokenizer = tiny.gpt2_tokenizer()
    tiny.tiny_gpt2(tokenizer).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def letters_reward(completions: list[str], **columns: Any) -> list[list[float]]:
    """Pays each of the first K lines for its share of vowels: spread in every cell, and a gradient to climb."""
    rewards = []
    for text in completions:
        lines = [line for line in text.split("\n") if line.strip()][:NUM_RANKS]
        shares = [sum(c in "aeiou" for c in line) / len(line) for line in lines]
        rewards.append(shares + [0.0] * (NUM_RANKS - len(shares)))
    return rewards


@pytest.fixture
def make_trainer(policy_dir: Path, tmp_path: Path) -> Callable[..., RankGRPOTrainer]:
    """Builds a trainer on eight prompts; keyword arguments override settings, `model` and `reward_funcs` the rest."""

    def make(
        name: str = "run",
        *,
        model: Any = None,
        reward_funcs: Any = letters_reward,
        peft_config: Any = None,
        callbacks: Any = None,
        **settings: Any,
    ) -> RankGRPOTrainer:
        defaults = {
            "output_dir": str(tmp_path / name),
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "report_to": [],
            "num_ranks": NUM_RANKS,
            "per_device_train_batch_size": 4,
            "num_generations": 2,
            "max_completion_length": 12,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "save_strategy": "no",
            "max_steps": 2,
            "disable_tqdm": True,
        }
        prompts = [f"Films like number {i}:\n" for i in range(8)]
        return RankGRPOTrainer(
            AutoModelForCausalLM.from_pretrained(policy_dir) if model is None else model,
            reward_funcs,
            RankGRPOConfig(**{**defaults, **settings}),
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            processing_class=AutoTokenizer.from_pretrained(policy_dir),
            peft_config=peft_config,
            callbacks=callbacks,
        )

    return make
