"""What saves memory changes memory: gradient checkpointing, bfloat16 and LoRA leave what is learned as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

LORA = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["c_attn"], fan_in_fan_out=True)


def trained(make_trainer: Any, name: str, **settings: Any) -> tuple[Any, torch.Tensor]:
    """A trainer after two steps, and how far its weights that are trained have moved. (N,)"""
    trainer = make_trainer(name, **settings)
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    before = [weight.detach().clone() for weight in weights]
    trainer.train()
    moves = [(weight.detach() - start).flatten() for weight, start in zip(weights, before, strict=True)]
    return trainer, torch.cat(moves).float()


@pytest.mark.parametrize("peft_config", [None, LORA], ids=["all weights", "LoRA"])
def test_gradient_checkpointing_changes_no_step(peft_config: Any, make_trainer: Any) -> None:
    _, plain = trained(make_trainer, "plain", peft_config=peft_config)
    _, saved = trained(make_trainer, "saved", peft_config=peft_config, gradient_checkpointing=True)
    assert plain.abs().max() > 0
    torch.testing.assert_close(saved, plain, rtol=0, atol=1e-7)


def test_lora_moves_its_adapter_alone(make_trainer: Any, policy_dir: Path) -> None:
    trainer, moved = trained(make_trainer, "lora", peft_config=LORA)
    assert moved.abs().max() > 0
    below = dict(trainer.model.get_base_model().named_parameters())
    for name, weight in AutoModelForCausalLM.from_pretrained(policy_dir).named_parameters():
        place = name if name in below else name.replace("c_attn.", "c_attn.base_layer.")
        assert torch.equal(below[place], weight), name
    assert all("lora" in name for name, weight in trainer.model.named_parameters() if weight.requires_grad)


def first_log(trainer: Any) -> dict[str, float]:
    return next(entry for entry in trainer.state.log_history if "reward" in entry)


def test_bfloat16_computes_in_fewer_bits_and_keeps_weights_in_float32(make_trainer: Any) -> None:
    """`bf16: true` with `dtype: float32`, as the recipes have it: the first lists, their ratio and KL are those of one
    policy in both passes, and what is learned points the same way."""
    trainer, move = trained(make_trainer, "bf16", bf16=True, max_steps=1)
    _, exact = trained(make_trainer, "float32", max_steps=1)
    assert {weight.dtype for weight in trainer.model.parameters()} == {torch.float32}
    entry = first_log(trainer)
    assert entry["ratio/all"] == pytest.approx(1.0, abs=1e-6)
    assert entry["kl/all"] == pytest.approx(0.0, abs=1e-6)
    assert torch.nn.functional.cosine_similarity(move, exact, dim=0) > 0.5
    assert not torch.equal(move, exact), "nothing was computed in bfloat16"


def test_weights_in_bfloat16_start_from_their_own_reference(make_trainer: Any, policy_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy_dir, dtype=torch.bfloat16)
    trainer, move = trained(make_trainer, "pure", model=model, bf16=True, beta=0.1)
    assert {weight.dtype for weight in trainer.model.parameters()} == {torch.bfloat16}
    assert first_log(trainer)["kl/all"] == pytest.approx(0.0, abs=1e-6)
    assert move.isfinite().all()
    assert move.abs().max() > 0
