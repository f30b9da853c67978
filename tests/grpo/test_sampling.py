"""Lists are sampled as the run says, whatever a model's `generation_config.json` asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from rankrl.grpo import forget_generation_config, sampling_settings

# Each of these alone changes what is sampled where a call of `generate` leaves it open.
HOSTILE: dict[str, dict[str, Any]] = {
    "least length": {"min_new_tokens": 11},
    "forbidden tokens": {"suppress_tokens": list(range(5, 300))},
    "tokens that must not come first": {"begin_suppress_tokens": list(range(5, 500))},
    "no phrase twice": {"no_repeat_ngram_size": 1},
    "only likely tokens": {"min_p": 0.9},
    "typical tokens": {"typical_p": 0.01},
    "biased tokens": {"sequence_bias": [[[9], 50.0]]},
    "another end": {"eos_token_id": list(range(5, 300))},
    "everything at once": {
        "do_sample": False,
        "temperature": 0.01,
        "top_k": 1,
        "top_p": 0.1,
        "repetition_penalty": 5.0,
        "min_new_tokens": 11,
        "max_new_tokens": 3,
        "suppress_tokens": list(range(5, 300)),
        "eos_token_id": [2, 3],
    },
}


def sampled(make_trainer: Any, policy_dir: Path, hostile: dict[str, Any], *, forget: bool) -> list[list[int]]:
    """The token ids of eight sampled lists."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(policy_dir), AutoTokenizer.from_pretrained(policy_dir)
    model.generation_config = GenerationConfig(**hostile)
    if forget:
        forget_generation_config(model, tokenizer)
    trainer = make_trainer(model=model, per_device_train_batch_size=8)
    torch.manual_seed(0)
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    rows = zip(inputs["completion_ids"], inputs["completion_mask"], strict=True)
    return [ids[mask == 1].tolist() for ids, mask in rows]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_sampled_lists_are_the_same_whatever_the_model_asks_for(
    hostile: str, make_trainer: Any, policy_dir: Path
) -> None:
    plain = sampled(make_trainer, policy_dir, {"eos_token_id": 0}, forget=False)
    assert sampled(make_trainer, policy_dir, HOSTILE[hostile], forget=True) == plain
    assert sampled(make_trainer, policy_dir, HOSTILE[hostile], forget=False) != plain, "nothing to be guarded against"


def test_what_does_not_count_is_named(policy_dir: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(policy_dir), AutoTokenizer.from_pretrained(policy_dir)
    assert forget_generation_config(model, tokenizer) == {}
    model.generation_config = GenerationConfig(top_k=1, eos_token_id=[0, 5], pad_token_id=5)
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 0
    assert forget_generation_config(model, tokenizer) == {"top_k": 1, "eos_token_id": [0, 5]}
    assert forget_generation_config(model, tokenizer) == {}
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (0, 0)


def test_an_adapter_and_the_model_below_it_forget(policy_dir: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(policy_dir), AutoTokenizer.from_pretrained(policy_dir)
    model.generation_config = GenerationConfig(top_k=1)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2))
    assert forget_generation_config(adapted, tokenizer) == {"top_k": 1}
    assert adapted.generation_config.top_k is None
    assert model.generation_config.top_k is None


def test_what_is_trained_is_saved_with_its_end_token_alone(policy_dir: Path, tmp_path: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(policy_dir), AutoTokenizer.from_pretrained(policy_dir)
    model.generation_config = GenerationConfig(repetition_penalty=5.0, eos_token_id=[0, 5])
    forget_generation_config(model, tokenizer)
    model.save_pretrained(tmp_path)
    saved = GenerationConfig.from_pretrained(tmp_path)
    assert (saved.repetition_penalty, saved.eos_token_id) == (None, 0)


def test_every_setting_of_a_run_is_written_down(make_trainer: Any) -> None:
    settings = sampling_settings(make_trainer(temperature=0.7))
    expected = {"do_sample": True, "temperature": 0.7, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}
    assert settings.items() >= {**expected, "max_new_tokens": 12, "eos_token_id": [0]}.items()
