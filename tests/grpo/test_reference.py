"""The reference is the policy at the start, or it is refused; `tests/launch` sees it under every engine."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from transformers import GPT2LMHeadModel

from rankrl.grpo.reference import require_same_weights


def compare(policy: GPT2LMHeadModel, other: GPT2LMHeadModel) -> None:
    require_same_weights(policy, other, lambda parameters: nullcontext())


def test_a_reference_of_fewer_bits_is_the_same(tiny_gpt2: GPT2LMHeadModel) -> None:
    """DeepSpeed keeps it in 16 bits where the policy trains in 32."""
    compare(tiny_gpt2, copy.deepcopy(tiny_gpt2).bfloat16())


def test_one_changed_weight_is_seen(tiny_gpt2: GPT2LMHeadModel) -> None:
    other = copy.deepcopy(tiny_gpt2)
    with torch.no_grad():
        other.transformer.h[1].mlp.c_proj.weight[3, 4] += 0.1
    with pytest.raises(ValueError, match=r"differs from the policy in transformer.h.1.mlp.c_proj.weight"):
        compare(tiny_gpt2, other)
