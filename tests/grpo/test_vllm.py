"""Lists that vLLM writes: all of TRL's code around the engine runs, with a stand-in where the engine would be."""

from __future__ import annotations

from math import isfinite, log
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from trl.trainer import grpo_trainer

from tests.grpo.conftest import letters_of_even_prompts
from tests.grpo.injected import LISTS, Steps, gap, train_on

SETTINGS = {
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 19,
    "max_steps": 1,
    "optim": "sgd",
    "max_grad_norm": 0.0,
    "beta": 0.0,
}


class Engine:
    """Answers every batch with `LISTS`, and says that its tokens were `factor` times less likely than to the policy."""

    factor = 1.0

    def __init__(self, model: Any, processing_class: Any, **_: Any) -> None:
        self.model = model
        self.synced = 0
        self.rows = [processing_class.encode(text.replace("\0", processing_class.eos_token)) for text in LISTS]
        info = {"model_config": {"logprobs_mode": "processed_logprobs"}}
        self.vllm_client = SimpleNamespace(get_server_info=lambda: info)

    def sync_weights(self) -> None:
        self.synced += 1

    def generate(self, prompts: list[list[int]], **_: Any) -> tuple[Any, Any, Any, Any]:
        lists = [self.rows[at % len(self.rows)] for at in range(len(prompts))]
        said = [[[value] for value in self.log_probs(*pair)] for pair in zip(prompts, lists, strict=True)]
        return prompts, lists, said, None

    @torch.no_grad()
    def log_probs(self, prompt: list[int], written: list[int]) -> list[float]:
        logits = self.model(torch.tensor([prompt + written])).logits[0, len(prompt) - 1 : -1]
        found = logits.log_softmax(-1).gather(1, torch.tensor(written)[:, None])[:, 0]
        return (found - log(self.factor)).tolist()


@pytest.fixture
def with_engine(make_trainer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`make_trainer` with vLLM's stand-in, whose probabilities are off by a factor."""

    def make(name: str = "engine", *, factor: float = 1.0, **settings: Any) -> Any:
        monkeypatch.setattr(grpo_trainer, "VLLMGeneration", type("Off", (Engine,), {"factor": factor}))
        return make_trainer(name, use_vllm=True, **{**SETTINGS, **settings})

    return make


@pytest.fixture
def plain(make_trainer: Any) -> Steps:
    """What the policy's own lists do."""
    return train_on(make_trainer("plain", **SETTINGS))


@pytest.mark.parametrize("mode", ["colocate", "server"])
@pytest.mark.parametrize(
    ("correction", "factor", "weight"),
    [
        ("token_truncate", 1.0, 1.0),
        ("token_truncate", 2.0, 2.0),
        ("token_truncate", 5.0, 3.0),  # at most vllm_importance_sampling_clip_max
        ("sequence_truncate", 2.0, 3.0),  # the product over a list is far above it
        (None, 2.0, 1.0),
    ],
)
def test_lists_count_by_how_likely_they_were_to_the_engine(
    mode: str, correction: str | None, factor: float, weight: float, with_engine: Any, plain: Steps
) -> None:
    settings = {"vllm_importance_sampling_correction": correction is not None}
    settings |= {"vllm_importance_sampling_mode": correction} if correction else {}
    found = train_on(with_engine(vllm_mode=mode, factor=factor, **settings))
    expected = {name: weight * value for name, value in plain.gradients[0].items()}
    assert gap(found.gradients[0], expected) < 1e-4


def test_units_that_the_engine_could_not_have_written_are_dropped(with_engine: Any, plain: Steps) -> None:
    found = train_on(with_engine(factor=5.0, vllm_importance_sampling_mode="token_mask"))
    assert max(float(value.abs().max()) for value in plain.gradients[0].values()) > 1e-3
    assert max(float(value.abs().max()) for value in found.gradients[0].values()) == 0.0


def test_the_engine_follows_the_policy(with_engine: Any) -> None:
    trainer = with_engine(max_steps=3)
    train_on(trainer)
    assert trainer.vllm_generation.synced == 3


def test_the_engine_writes_further_prompts_too(with_engine: Any) -> None:
    steps = train_on(with_engine(reward_funcs=letters_of_even_prompts, dynamic_sampling_rounds=3, max_steps=2))
    assert max(log["sampling_rounds"] for log in steps.logs) >= 1
    assert all(isfinite(log["loss"]) and log["informative_trained/all"] > 0 for log in steps.logs)


def test_end_tokens_of_the_engine_alone_are_refused(with_engine: Any, policy_dir: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(policy_dir)
    model.generation_config = GenerationConfig(eos_token_id=[0, 5])
    with pytest.raises(ValueError, match=r"vLLM reads the end tokens \[0, 5\] .* and the tokenizer's is 0 alone"):
        with_engine(model=model)
