"""Lists are sampled as the run says, whatever a model's `generation_config.json` asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, Trainer

from rankrl.grpo import RankGRPOConfig, RankGRPOTrainer, forget_generation_config, sampling_settings
from tests.grpo.conftest import SETTINGS, letters_reward


@pytest.fixture
def named(policy_dir: Path, tmp_path: Path) -> Callable[..., str]:
    """Saves the tiny policy with what it asks for; returns the name that a trainer loads it by."""

    def save(**asked: Any) -> str:
        model = AutoModelForCausalLM.from_pretrained(policy_dir)
        model.generation_config = GenerationConfig(**asked)
        model.save_pretrained(tmp_path / "named")
        return str(tmp_path / "named")

    return save


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


def sampled(make_trainer: Callable[..., Trainer], policy_dir: Path, asked: dict[str, Any], **given: Any) -> list[Any]:
    """The token ids of eight lists that a model which asks for something is sampled by."""
    model = AutoModelForCausalLM.from_pretrained(policy_dir)
    model.generation_config = GenerationConfig(**asked)
    trainer = make_trainer(model=model, per_device_train_batch_size=8, **given)
    torch.manual_seed(0)
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    rows = zip(inputs["completion_ids"], inputs["completion_mask"], strict=True)
    return [ids[mask == 1].tolist() for ids, mask in rows]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_sampled_lists_are_the_same_whatever_the_model_asks_for(
    hostile: str, make_trainer: Any, make_trl_trainer: Any, policy_dir: Path
) -> None:
    plain = sampled(make_trainer, policy_dir, {"eos_token_id": 0})
    assert sampled(make_trainer, policy_dir, HOSTILE[hostile]) == plain
    trl = {"reward_funcs": lambda completions, **_: [0.0] * len(completions)}
    assert sampled(make_trl_trainer, policy_dir, {"eos_token_id": 0}, **trl) == plain
    assert sampled(make_trl_trainer, policy_dir, HOSTILE[hostile], **trl) != plain, "nothing to be guarded against"


def test_a_model_by_name_is_left_nothing_to_ask_for(make_trainer: Any, named: Callable[..., str]) -> None:
    assert make_trainer(model=named(repetition_penalty=5.0)).model.generation_config.repetition_penalty is None


def test_a_model_by_name_with_further_end_tokens_is_refused(make_trainer: Any, named: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match=r"at the tokens \[0, 5\], and the tokenizer at 0 .* instead of its name"):
        make_trainer(model=named(eos_token_id=[0, 5]))


@pytest.mark.parametrize("name", ["tools", "environment_factory", "rollout_func"])
def test_tokens_that_the_policy_has_not_written_are_refused(name: str, policy_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name} was given, but a ranked list is one turn"):
        RankGRPOTrainer(
            AutoModelForCausalLM.from_pretrained(policy_dir),
            letters_reward,
            RankGRPOConfig(**SETTINGS, output_dir=str(tmp_path), num_ranks=3),
            processing_class=AutoTokenizer.from_pretrained(policy_dir),
            **{name: [print] if name == "tools" else print},
        )


def test_prompts_with_images_are_refused(make_trainer: Any) -> None:
    with pytest.raises(ValueError, match="train_dataset has the column 'images', but the prompt of a ranked list is"):
        make_trainer(columns={"images": [[]] * 8})


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


def test_what_vllm_is_told_is_written_down_too() -> None:
    told = {"temperature": 0.7, "top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}
    args = SimpleNamespace(use_vllm=True, max_completion_length=12, generation_kwargs={"top_p": 0.9}, **told)
    settings = sampling_settings(SimpleNamespace(args=args))
    assert settings == {**told, "engine": "vllm", "max_tokens": 12, "top_p": 0.9}
