"""Fixtures that every part uses: tiny tokenizers and models, the real data where it is there, hypothesis' settings."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2ForCausalLM

# No test talks to the network: TRL's trainers and Ray would report their use from a thread.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

FAMILIES = ("gemma", "gpt2", "llama2", "llama3", "qwen2", "qwen3")
"""Names of the tokenizer families that can write lists: the keys of `tests.tiny.FAMILIES`."""

# Two cores shared with other jobs: a slow example is no failure.
settings.register_profile(
    "rankrl", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("rankrl")

REPOSITORY = Path(__file__).resolve().parent.parent


def tiny(name: str, *arguments: Any) -> Any:
    """Call a builder of `tests.tiny`. Imported late: the tests of the pure parts should not wait for torch."""
    return getattr(import_module("tests.tiny"), name)(*arguments)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The directory of real data sets: `RANKRL_DATA`, else `shared/data` beside the repository.

    They cannot be in the repository, so a test is skipped where nobody says where they are; not where somebody does.
    """
    named = os.environ.get("RANKRL_DATA")
    directory = Path(named or REPOSITORY.parent / "shared" / "data")
    if not directory.is_dir():
        if named:
            pytest.fail(f"RANKRL_DATA is {named}, and there is no such directory")
        pytest.skip(f"no real data in {directory}; set RANKRL_DATA to the directory that holds redial/, inspired/, ...")
    return directory


@pytest.fixture(scope="session", params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Every family that can write lists, one after the other. Tests must not change it."""
    return tiny(f"{request.param}_tokenizer")


@pytest.fixture(scope="session")
def gpt2_tokenizer() -> PreTrainedTokenizerFast:
    return tiny("gpt2_tokenizer")


@pytest.fixture(scope="session")
def qwen2_tokenizer() -> PreTrainedTokenizerFast:
    return tiny("qwen2_tokenizer")


@pytest.fixture(scope="session")
def qwen3_tokenizer() -> PreTrainedTokenizerFast:
    return tiny("qwen3_tokenizer")


@pytest.fixture(scope="session")
def llama3_tokenizer() -> PreTrainedTokenizerFast:
    return tiny("llama3_tokenizer")


@pytest.fixture(scope="session")
def llama2_tokenizer() -> PreTrainedTokenizerFast:
    return tiny("llama2_tokenizer")


@pytest.fixture(scope="session")
def gemma_tokenizer() -> PreTrainedTokenizerFast:
    return tiny("gemma_tokenizer")


@pytest.fixture(scope="session")
def wordpiece_tokenizer() -> PreTrainedTokenizerFast:
    return tiny("wordpiece_tokenizer")


@pytest.fixture(scope="session")
def endless_tokenizer() -> PreTrainedTokenizerFast:
    return tiny("endless_tokenizer")


@pytest.fixture
def tiny_gpt2(gpt2_tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    return tiny("tiny_gpt2", gpt2_tokenizer)


@pytest.fixture
def tiny_qwen2(qwen2_tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    return tiny("tiny_qwen2", qwen2_tokenizer)


@pytest.fixture
def tiny_llama(llama3_tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return tiny("tiny_llama", llama3_tokenizer)
