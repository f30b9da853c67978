"""Memory that runs out: what was being done, and what to lower there; the device's own error is the cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, GPT2Model

from rankrl.grpo import RankGRPOConfig, RankGRPOTrainer
from rankrl.grpo.out_of_memory import explain_out_of_memory
from rankrl.run.interrupt import train

NEEDED = "CUDA out of memory. Tried to allocate 2.32 GiB."


class TooLarge(GPT2Model):
    """Runs out of memory in one kind of pass: "generate" (which keeps a cache), "score" or "learn"."""

    fails_to = ""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        cached = kwargs.get("past_key_values") is not None
        doing = "learn" if torch.is_grad_enabled() else "generate" if cached else "score"
        if doing == self.fails_to:
            raise torch.OutOfMemoryError(NEEDED)
        return super().forward(*args, **kwargs)


@pytest.mark.parametrize(
    ("fails_to", "settings", "said"),
    [
        (
            "generate",
            {"gradient_accumulation_steps": 2},
            r"while lists were written, 8 at once \(per_device_train_batch_size 4 x steps_per_generation 2\): lower "
            r"steps_per_generation \(2\) to a divisor.*num_generations \(2\).*max_completion_length 12.*use_vllm",
        ),
        ("generate", {}, r"while lists were written, 4 at once.*halve per_device_train_batch_size and double"),
        (
            "generate",
            {"gradient_accumulation_steps": 2, "num_iterations": 2},  # half of the lists would be one update on each
            r"while lists were written, 8 at once.*spread them over more processes.*num_generations \(2\)",
        ),
        (
            "score",
            {"beta": 0.1},  # by the reference, which is the policy with the adapter off
            r"while log-probabilities of the lists were computed, 4 texts at once: halve per_device_train_batch_size "
            r"\(4\)",
        ),
        (
            "learn",
            {},
            r"in the step. Most of it.* from 4 texts.*gradient_accumulation_steps \(1\) and steps_per_generation \(1\)"
            r".*gradient_checkpointing: true",
        ),
    ],
)
def test_each_phase_says_what_to_lower(
    fails_to: str, settings: dict[str, Any], said: str, policy_dir: Path, make_trainer: Callable[..., RankGRPOTrainer]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy_dir)
    model.transformer.__class__ = TooLarge
    model.transformer.fails_to = fails_to
    trainer = make_trainer(model=model, peft_config=LoraConfig(r=2, task_type="CAUSAL_LM"), **settings)
    with pytest.raises(torch.OutOfMemoryError, match=f"ran out {said}.*rankrl.plan.*2.32 GiB") as raised:
        train(trainer, None)
    assert str(raised.value.__cause__) == NEEDED


def test_vllm_is_told_apart() -> None:
    args = SimpleNamespace(use_vllm=True, vllm_gpu_memory_utilization=0.3, max_completion_length=512)
    with (
        pytest.raises(torch.OutOfMemoryError, match=r"vllm_gpu_memory_utilization 0.3 of each GPU.*sleep_mode"),
        explain_out_of_memory("generate", args),
    ):
        raise torch.OutOfMemoryError(NEEDED)


def test_the_inner_phase_is_the_one() -> None:
    args = SimpleNamespace(max_completion_length=512)
    with (
        pytest.raises(torch.OutOfMemoryError, match="for validation: lower validate_batch_size"),
        explain_out_of_memory("step", args),
        explain_out_of_memory("other", args),
        explain_out_of_memory("validate", args),
    ):
        raise torch.OutOfMemoryError(NEEDED)


def test_what_no_phase_explains_ran_out_in_the_step() -> None:
    """A reward with a model of its own, a checkpoint being gathered; and a device that says nothing."""
    args = RankGRPOConfig("unused", use_cpu=True, bf16=False)
    with (
        pytest.raises(torch.OutOfMemoryError, match=r"ran out in the step\..*The device said: OutOfMemoryError$"),
        explain_out_of_memory("step", args),
        explain_out_of_memory("reward", args),
    ):
        raise torch.OutOfMemoryError


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="^something else$"), explain_out_of_memory("step", None):
        raise RuntimeError("something else")
