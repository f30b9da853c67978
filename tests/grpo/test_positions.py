"""Left padding moves no token: what a model makes of a text does not depend on the prompts beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from rankrl.grpo.positions import count_positions_from_the_text
from tests.tiny import gpt2_tokenizer, qwen2_tokenizer, tiny_gpt2, tiny_qwen2


def logits(model: torch.nn.Module, ids: list[int], padding: int) -> torch.Tensor:
    """What the model makes of `ids` behind so much padding: `(T, V)`."""
    rows = torch.tensor([[0] * padding + ids])
    mask = torch.tensor([[0] * padding + [1] * len(ids)])
    with torch.no_grad():
        return model.eval()(input_ids=rows, attention_mask=mask).logits[0, padding:]


def gpt2() -> PreTrainedModel:
    return tiny_gpt2(gpt2_tokenizer())


def qwen2() -> PreTrainedModel:
    return tiny_qwen2(qwen2_tokenizer())


@pytest.mark.parametrize("make", [gpt2, qwen2])
def test_padding_changes_nothing(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    count_positions_from_the_text(model)
    ids = [5, 9, 11, 7]
    torch.testing.assert_close(logits(model, ids, 6), logits(model, ids, 0), atol=1e-5, rtol=0)


def test_a_text_without_padding_is_read_as_before() -> None:
    """Positions begin at 0, where the model has learned them, and go on after what is cached."""
    model, ids, mask = gpt2(), torch.tensor([[5, 9, 11, 7]]), torch.ones(1, 4, dtype=torch.long)
    expected = logits(model, [5, 9, 11, 7], 0)
    count_positions_from_the_text(model)
    torch.testing.assert_close(logits(model, [5, 9, 11, 7], 0), expected, atol=1e-5, rtol=0)
    with torch.no_grad():
        begun = model(input_ids=ids[:, :2], attention_mask=mask[:, :2], use_cache=True).past_key_values
        rest = model(input_ids=ids[:, 2:], attention_mask=mask, past_key_values=begun).logits[0]
    torch.testing.assert_close(rest, expected[2:], atol=1e-5, rtol=0)


def test_without_it_a_model_of_learned_positions_is_shifted() -> None:
    model = gpt2()
    assert not torch.allclose(logits(model, [5, 9, 11, 7], 6), logits(model, [5, 9, 11, 7], 0), atol=1e-3)


def test_positions_that_are_told_stay() -> None:
    model = gpt2().eval()
    ids, told = torch.tensor([[5, 9, 11]]), torch.tensor([[3, 4, 5]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask, position_ids=told).logits
        count_positions_from_the_text(model)
        assert torch.equal(model(input_ids=ids, attention_mask=mask, position_ids=told).logits, expected)


@pytest.mark.parametrize("lora", [False, True])
def test_the_trainer_sees_lists_where_they_were_written(make_trainer: Callable, lora: bool) -> None:
    peft_config = LoraConfig(task_type="CAUSAL_LM", r=4) if lora else None
    trainer = make_trainer(peft_config=peft_config, beta=0.1)
    models = [trainer.model] if trainer.ref_model is None else [trainer.model, trainer.ref_model]
    assert len(models) == 2 - lora
    for model in models:
        torch.testing.assert_close(logits(model, [5, 9, 11], 4), logits(model, [5, 9, 11], 0), atol=1e-5, rtol=0)
