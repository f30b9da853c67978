"""Shapes are read from configs alone, and count every weight that the real model has."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel, LlamaForCausalLM, MambaConfig, Qwen2ForCausalLM

from rankrl.plan.arithmetic import lora_parameters
from rankrl.plan.shapes import PAPER_MODELS, load_config, shape_of, shape_of_model


def counted(model: Any) -> int:
    return sum(weight.numel() for weight in model.parameters())


def test_the_weights_of_qwen_by_hand() -> None:
    """Queries 896 x 896 and outputs the same; keys and values 896 x 128; three of 896 x 4,864; biases, norms."""
    layer = 2 * 896 * 896 + 896 + 2 * (896 * 128 + 128) + 3 * 896 * 4864 + 2 * 896
    assert 151_936 * 896 + 24 * layer + 896 == 494_032_768
    shape = shape_of(load_config("Qwen/Qwen2.5-0.5B-Instruct"), "qwen")
    assert shape.parameters == 494_032_768
    assert shape.linear_parameters == 24 * (2 * 896 * 896 + 2 * 896 * 128 + 3 * 896 * 4864)
    assert (shape.layers, shape.kv_heads, shape.head_dim, shape.gated) == (24, 2, 64, True)


@pytest.mark.parametrize(("name", "weights"), [("Llama-3.2-1B", 1_235_814_400), ("Llama-3.2-3B", 3_212_749_824)])
def test_the_weights_of_llama(name: str, weights: int) -> None:
    assert shape_of(PAPER_MODELS[name], name).parameters == weights


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_qwen2", "tiny_llama"])
def test_the_weights_of_real_models(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model: GPT2LMHeadModel | Qwen2ForCausalLM | LlamaForCausalLM = request.getfixturevalue(family)
    model.config.save_pretrained(tmp_path)  # no weights
    shape = shape_of(load_config(str(tmp_path)), family)
    assert shape.parameters == counted(model)
    assert (shape.layers, shape.hidden, shape.vocabulary) == (2, 32, model.config.vocab_size)
    assert shape.gated == (family != "tiny_gpt2")


def test_adapters_have_the_weights_that_peft_gives_them(tiny_llama: LlamaForCausalLM) -> None:
    from peft import LoraConfig, get_peft_model

    for targets in ("all-linear", ["q_proj", "v_proj"]):
        shape = shape_of(tiny_llama.config, "tiny", targets)
        adapted = get_peft_model(
            LlamaForCausalLM(tiny_llama.config), LoraConfig(r=3, target_modules=targets, task_type="CAUSAL_LM")
        )
        trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
        assert lora_parameters(shape.adapted, 3) == trained


@pytest.mark.parametrize("family", ["tiny_gpt2", "tiny_qwen2", "tiny_llama"])
def test_a_loaded_model_has_the_shape_of_its_config(family: str, request: pytest.FixtureRequest) -> None:
    from peft import LoraConfig, get_peft_model

    model = deepcopy(request.getfixturevalue(family))
    assert shape_of_model(model, "tiny") == replace(shape_of(model.config, "tiny"), adapted=())
    some = "c_attn" if family == "tiny_gpt2" else "q_proj"
    adapted = get_peft_model(model, LoraConfig(r=3, target_modules=[some], task_type="CAUSAL_LM"))
    assert shape_of_model(adapted, "tiny") == shape_of(model.config, "tiny", [some])


def test_what_is_spread_counts_whole(tiny_llama: LlamaForCausalLM) -> None:
    """ZeRO-3 leaves an empty tensor in the place of a weight, and says in `ds_numel` how many numbers it stands for."""
    model = deepcopy(tiny_llama)
    for weight in model.parameters():
        weight.ds_numel = weight.numel()
        weight.data = torch.empty(0)
    assert shape_of_model(model, "tiny") == shape_of_model(tiny_llama, "tiny")


def test_a_model_without_attention_teaches() -> None:
    config = MambaConfig(vocab_size=64, hidden_size=8, state_size=2, num_hidden_layers=1)
    with pytest.raises(ValueError, match=r"some \(mamba\) says no num_attention_heads .* cannot be planned"):
        shape_of(config, "some")


def test_a_model_with_code_of_its_own_is_not_run(tmp_path: Path) -> None:
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "own.py").write_text("raise SystemExit('it was run')", encoding="utf-8")
    with pytest.raises(ValueError, match="brings code of its own, which a plan does not run"):
        load_config(str(tmp_path))


def test_a_model_that_is_not_there_teaches(tmp_path: Path, tiny_llama: LlamaForCausalLM) -> None:
    with pytest.raises(ValueError, match=r"model_name_or_path is None; name the model .* Qwen2.5-0.5B, Llama-3.2-1B"):
        load_config(None)
    with pytest.raises(ValueError, match="For a stage that has not run yet, name the model that it begins from"):
        load_config(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="holds an adapter; name its base model"):
        load_config(str(tmp_path))
    with pytest.raises(ValueError, match="lora_target_modules is .'no_such'., and no linear layer of tiny ends so"):
        shape_of(tiny_llama.config, "tiny", ["no_such"])
