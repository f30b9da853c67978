"""A run that starts says what its plan would, on the settings as they came out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from trl import ModelConfig

from rankrl.grpo import RankGRPOConfig
from rankrl.plan.estimate import Device
from rankrl.plan.started import warn_of_findings
from rankrl.run.arguments import RewardArguments
from tests import tiny

SMALL_GPU = Device(1e6, 1e12, 1e12)


@pytest.fixture
def settings(tmp_path: Path) -> tuple[Any, ...]:
    """What the recipe has parsed."""
    training = {"num_ranks": 3, "max_completion_length": 24, "num_generations": 2, "per_device_train_batch_size": 2}
    parsed = (
        RewardArguments(catalog="catalog.jsonl", dialogues="train.jsonl"),
        RankGRPOConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none", **training),
        ModelConfig(model_name_or_path="policy", dtype="bfloat16"),
    )
    Accelerator(cpu=True)  # as the trainer makes it: the processes have joined
    return parsed


@pytest.fixture
def policy() -> Any:
    return tiny.tiny_gpt2(tiny.gpt2_tokenizer())


def test_what_does_not_fit_is_said_with_what_to_lower(
    policy: Any, settings: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_findings("rank_grpo", policy, *settings, device=SMALL_GPU)
    assert "it does not fit: " in caplog.text
    assert "a GPU has 0.0 GB" in caplog.text
    assert "python -m rankrl.plan" in caplog.text


def test_an_adapter_is_seen_whoever_brought_it(
    policy: Any, settings: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Sixteen bits are too few for all weights, not for the weights below an adapter."""
    caplog.set_level(logging.WARNING)
    warn_of_findings("rank_grpo", policy, *settings)
    assert "16 bits without a master copy" in caplog.text
    caplog.clear()
    warn_of_findings("rank_grpo", get_peft_model(policy, LoraConfig(target_modules=["c_attn"])), *settings)
    assert caplog.text == ""


def test_no_memory_is_compared_on_a_cpu(
    policy: Any, settings: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    settings[2].dtype = "float32"
    warn_of_findings("rank_grpo", policy, *settings)
    assert caplog.text == ""
