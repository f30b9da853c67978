"""A run that starts says what its plan would, on the settings as they came out."""

from __future__ import annotations

import logging
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from accelerate import Accelerator, DeepSpeedPlugin
from accelerate.commands.config.config_args import load_config_from_file
from peft import IA3Config, LoraConfig, get_peft_model
from transformers import LlamaForCausalLM, MambaConfig, MambaForCausalLM
from trl import ModelConfig, get_peft_config

from rankrl.data.prompts import context_length
from rankrl.grpo import RankGRPOConfig
from rankrl.plan.estimate import Device
from rankrl.plan.settings import make_setup, parse, read_cluster
from rankrl.plan.shapes import shape_of
from rankrl.plan.started import joined_cluster, warn_of_findings, what_is_trained
from rankrl.run.arguments import RewardArguments
from tests import tiny

REPOSITORY = Path(__file__).resolve().parents[2]
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


def test_a_model_that_cannot_be_planned_is_trained(settings: tuple[Any, ...], caplog: pytest.LogCaptureFixture) -> None:
    model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=8, state_size=2, num_hidden_layers=1))
    warn_of_findings("rank_grpo", model, *settings)
    assert "no plan was made of this run: policy (mamba) says no num_attention_heads" in caplog.text


def test_another_adapter_than_lora_is_trained(
    policy: Any, settings: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    other = get_peft_model(policy, IA3Config(target_modules=["c_attn"], feedforward_modules=[]))
    warn_of_findings("rank_grpo", other, *settings)
    assert "no plan was made of this run: the adapter is IA3, and a plan knows LoRA alone" in caplog.text


# ---- The same as a plan ----------------------------------------------------------------------------------------------


def joined_by(path: Path) -> Any:
    """What accelerate's state holds in the first of two processes that a config starts, without starting them."""
    config = load_config_from_file(str(path))
    given = config.deepspeed_config
    deepspeed = None
    if given:
        deepspeed = DeepSpeedPlugin(
            zero_stage=given["zero_stage"],
            zero3_init_flag=False,
            offload_optimizer_device=given["offload_optimizer_device"],
        )
    return SimpleNamespace(
        distributed_type=config.distributed_type,
        num_processes=2 if config.num_processes != 1 else 1,
        mixed_precision=config.mixed_precision,
        deepspeed_plugin=deepspeed,
        fsdp_plugin=SimpleNamespace(**config.fsdp_config) if config.fsdp_config else None,
    )


@pytest.mark.parametrize("offload", ["none", "cpu"])
@pytest.mark.parametrize("engine", ["single_gpu", "multi_gpu", "zero2", "zero3", "fsdp2"])
def test_a_run_that_starts_is_what_was_planned(
    engine: str, offload: str, tiny_llama: LlamaForCausalLM, tmp_path: Path
) -> None:
    """Each by its own way: the plan reads files, the run what its processes, its settings and its model hold."""
    config = yaml.safe_load((REPOSITORY / "accelerate_configs" / f"{engine}.yaml").read_text(encoding="utf-8"))
    config.get("deepspeed_config", {})["offload_optimizer_device"] = offload
    launch = tmp_path / "launch.yaml"
    launch.write_text(yaml.safe_dump(config), encoding="utf-8")
    cluster = read_cluster(str(launch), None if engine == "single_gpu" else 2)
    assert joined_cluster(joined_by(launch)) == cluster
    assert cluster.offload == (offload == "cpu" and engine.startswith("zero"))

    recipe = str(REPOSITORY / "recipes" / "configs" / "rank_grpo.yaml")
    flags = ["--model_name_or_path", "tiny", "--lora_target_modules", "q_proj", "v_proj", "--use_vllm", "false"]
    settings = parse("rank_grpo", recipe, flags, cluster)
    planned = (
        shape_of(tiny_llama.config, "tiny", settings.lora_target_modules),
        make_setup("rank_grpo", settings, cluster, context_length(tiny_llama.config)),
    )
    checked = settings.checked[:3]  # a plan checks them with the lists of all processes in one
    checked[1].per_device_train_batch_size = settings.per_device_train_batch_size
    policy = get_peft_model(deepcopy(tiny_llama), get_peft_config(checked[2]))
    assert what_is_trained("rank_grpo", policy, checked, cluster) == planned
