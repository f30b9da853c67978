"""A tiny policy on disk, prompts, and a reward that differs from line to line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from rankrl.grpo import RankGRPOConfig, RankGRPOTrainer
from tests import tiny

NUM_RANKS = 3
PROMPT = "Films like number {}:\n"
TITLES = ("aa", "bb", "cc", "dd", "ee", "ff")


@pytest.fixture(scope="session")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("policy")
    tokenizer = tiny.gpt2_tokenizer()
    tiny.tiny_gpt2(tokenizer).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def title_writer_dir(policy_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny policy after a few seconds of lessons: it lists `TITLES`, each about as often as the others."""
    directory = tmp_path_factory.mktemp("title_writer")
    model, tokenizer = (kind.from_pretrained(policy_dir) for kind in (AutoModelForCausalLM, AutoTokenizer))
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        rows = [[TITLES[i] for i in torch.randperm(len(TITLES))[:NUM_RANKS]] for _ in range(16)]
        texts = [f"{PROMPT.format(n)}" + "\n".join(row) + tokenizer.eos_token for n, row in enumerate(rows)]
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        loss = model(**batch, labels=batch["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(directory)
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


def letters_of_even_prompts(prompts: list[str], completions: list[str], **columns: Any) -> list[list[float]]:
    """`letters_reward` where the number of the prompt is even, nothing to tell lists apart elsewhere."""
    rewards = letters_reward(completions)
    return [row if int(p[-3]) % 2 == 0 else [0.0] * NUM_RANKS for p, row in zip(prompts, rewards, strict=True)]


SETTINGS = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": [],
    "per_device_train_batch_size": 4,
    "num_generations": 2,
    "max_completion_length": 12,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "save_strategy": "no",
    "max_steps": 2,
    "disable_tqdm": True,
}


def prompts(columns: dict[str, list] | None = None) -> Dataset:
    """Eight prompts, with further columns of eight values each."""
    return Dataset.from_dict({"prompt": [PROMPT.format(i) for i in range(8)], **(columns or {})})


def rank_trainer(
    policy_dir: Path,
    output_dir: Path,
    *,
    trainer_class: type[RankGRPOTrainer] = RankGRPOTrainer,
    model: Any = None,
    reward_funcs: Any = letters_reward,
    peft_config: Any = None,
    callbacks: Any = None,
    columns: dict[str, list] | None = None,
    data: Dataset | None = None,
    **settings: Any,
) -> RankGRPOTrainer:
    """A trainer on eight prompts, with `SETTINGS` where none are given.

    `columns` are further columns of the data set, eight values each; `data` is another data set.
    """
    defaults = {**SETTINGS, "output_dir": str(output_dir), "num_ranks": NUM_RANKS}
    return trainer_class(
        AutoModelForCausalLM.from_pretrained(policy_dir) if model is None else model,
        reward_funcs,
        RankGRPOConfig(**{**defaults, **settings}),
        train_dataset=prompts(columns) if data is None else data,
        processing_class=AutoTokenizer.from_pretrained(policy_dir),
        peft_config=peft_config,
        callbacks=callbacks,
    )


@pytest.fixture
def make_trainer(policy_dir: Path, tmp_path: Path) -> Callable[..., RankGRPOTrainer]:
    """`rank_trainer` with the tiny policy and a folder by the name of the run."""
    return lambda name="run", **settings: rank_trainer(policy_dir, tmp_path / name, **settings)


@pytest.fixture
def make_trl_trainer(policy_dir: Path, tmp_path: Path) -> Callable[..., GRPOTrainer]:
    """Builds TRL's own trainer on the same policy and prompts, with the same settings where none is given."""

    def make(name: str = "trl", *, reward_funcs: Any, model: Any = None, **settings: Any) -> GRPOTrainer:
        return GRPOTrainer(
            AutoModelForCausalLM.from_pretrained(policy_dir) if model is None else model,
            reward_funcs,
            GRPOConfig(**{**SETTINGS, "disable_dropout": True, "output_dir": str(tmp_path / name), **settings}),
            train_dataset=prompts(),
            processing_class=AutoTokenizer.from_pretrained(policy_dir),
        )

    return make
