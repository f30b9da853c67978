"""A recipe starts from a model, an adapter directory or a tiny GPT-2: each is what it says, or an error that helps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel
from trl import ModelConfig, get_peft_config

from rankrl.run.models import (
    has_weights,
    is_adapter,
    load_policy,
    load_tokenizer,
    model_kwargs,
    require_lora_targets,
    require_model,
    tokenizer_kwargs,
)
from rankrl.run.tiny_gpt2 import build_tiny_gpt2

TEXTS = ["I want something like Heat (1995).", "Heat (1995)\nUp (2009)\nAmélie (2001)"] * 3
TINY = {"vocab_size": 300, "context": 64, "layers": 2, "width": 16, "heads": 2}


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model.eval()(torch.arange(20)[None]).logits


def save_adapter(base: Path, directory: Path, *, seed: int = 0) -> Path:
    """An adapter that changes what its base model says."""
    torch.manual_seed(seed)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"], fan_in_fan_out=True),
    )
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)
    model.save_pretrained(directory)
    return directory


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Path(build_tiny_gpt2(tmp_path / "base", TEXTS, **TINY))


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return save_adapter(base, tmp_path / "adapter")


# ---- tiny-gpt2 -------------------------------------------------------------------------------------------------------


def test_tiny_gpt2_is_decided_by_texts_and_seed(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)
    again = build_tiny_gpt2(tmp_path / "again", TEXTS, **TINY)
    other = build_tiny_gpt2(tmp_path / "other", TEXTS, **TINY, seed=1)
    assert torch.equal(logits(load_policy(again)), logits(load_policy(base)))
    assert not torch.equal(logits(load_policy(other)), logits(load_policy(base)))
    assert AutoTokenizer.from_pretrained(again).get_vocab() == AutoTokenizer.from_pretrained(base).get_vocab()


def test_tiny_gpt2_has_the_size_asked_for(base: Path) -> None:
    config = load_policy(base).config
    assert (config.n_positions, config.n_layer, config.n_embd, config.n_head) == (64, 2, 16, 2)
    assert config.vocab_size == len(AutoTokenizer.from_pretrained(base)) <= 300
    assert config.resid_pdrop == config.embd_pdrop == config.attn_pdrop == 0.0


@pytest.mark.parametrize("text", ["Heat (1995)\nUp (2009)", "\n\n", "Ünseen 漢字 🎬", "  two  spaces ", "<b>"])
def test_its_tokenizer_gives_back_every_text(text: str, base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_its_tokenizer_can_chat_and_end(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A film?"}]
    written = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert written == "<|system|>\nBe brief.<|end|>\n<|user|>\nA film?<|end|>\n<|assistant|>\n"
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|end|>", "<|pad|>")
    assert load_policy(base).config.eos_token_id == tokenizer.eos_token_id


def test_a_tiny_gpt2_that_is_there_is_left_alone(base: Path) -> None:
    before = (base / "model.safetensors").read_bytes()
    assert build_tiny_gpt2(base, ["other text"], seed=5) == str(base)
    assert (base / "model.safetensors").read_bytes() == before


# ---- Models and adapters ---------------------------------------------------------------------------------------------


def test_an_adapter_directory_is_told_from_a_model(base: Path, adapter: Path) -> None:
    assert is_adapter(adapter)
    assert not is_adapter(base)
    assert not is_adapter("Qwen/Qwen2.5-0.5B-Instruct")


def test_loads_a_model_as_it_is_told(base: Path) -> None:
    model = load_policy(base, dtype="bfloat16", attn_implementation="eager")
    assert isinstance(model, GPT2LMHeadModel)
    assert model.dtype == torch.bfloat16
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("trainable", [True, False])
def test_loads_an_adapter_to_be_trained_or_used(trainable: bool, adapter: Path) -> None:
    model = load_policy(adapter, trainable=trainable)
    assert isinstance(model, PeftModel)
    learning = {name for name, value in model.named_parameters() if value.requires_grad}
    assert bool(learning) == trainable
    assert all("lora" in name for name in learning)


def test_merging_changes_the_place_of_the_adapter_and_nothing_else(adapter: Path, base: Path, tmp_path: Path) -> None:
    merged = load_policy(adapter, merge_into=tmp_path / "merged")
    assert isinstance(merged, GPT2LMHeadModel)
    torch.testing.assert_close(logits(merged), logits(load_policy(adapter)), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits(merged), logits(load_policy(base)))
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), logits(merged))


def test_an_adapter_is_merged_into_all_bits_of_its_base(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QLoRA: the merged model is whole, and quantised when loaded; no package for few bits is needed to see it."""
    asked: list[tuple[str, Any]] = []

    def load(name: Any, quantization_config: Any = None, **kwargs: Any) -> Any:
        asked.append((Path(name).name, quantization_config))
        return from_pretrained(name, **kwargs)

    from_pretrained = AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    load_policy(adapter, merge_into=tmp_path / "merged", quantization_config="four bits")
    assert asked == [("base", None), ("merged", "four bits")]


def test_a_new_adapter_on_a_merged_one_names_the_merged_model(adapter: Path, tmp_path: Path) -> None:
    """Named after the first base model, it would be loaded onto weights that it was not trained on."""
    on_top = get_peft_model(load_policy(adapter, merge_into=tmp_path / "merged"), LoraConfig(fan_in_fan_out=True))
    on_top.save_pretrained(tmp_path / "second")
    expected = logits(load_policy(adapter))
    torch.testing.assert_close(logits(load_policy(tmp_path / "second")), expected, atol=1e-5, rtol=1e-5)


def test_the_merged_model_of_another_adapter_is_not_taken_for_this_one(
    adapter: Path, base: Path, tmp_path: Path
) -> None:
    load_policy(adapter, merge_into=tmp_path / "merged")
    other = save_adapter(base, tmp_path / "other", seed=1)
    merged = load_policy(other, merge_into=tmp_path / "merged")
    torch.testing.assert_close(logits(merged), logits(load_policy(other)), atol=1e-5, rtol=1e-5)


def test_a_merged_model_has_a_tokenizer_beside_it(adapter: Path, tmp_path: Path) -> None:
    """vLLM is given this directory and looks for one there."""
    load_policy(adapter, merge_into=tmp_path / "merged")
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").eos_token == "<|end|>"


def test_a_base_model_that_is_gone_is_named_with_the_way_out(adapter: Path, base: Path) -> None:
    shutil.move(base, base.parent / "moved")
    with pytest.raises(FileNotFoundError, match=r"not there any more.*`base_model_name_or_path`.*adapter_config"):
        load_policy(adapter)
    with pytest.raises(FileNotFoundError, match="not there any more"):
        load_tokenizer(adapter)


def test_an_adapter_on_a_model_given_by_a_relative_path_is_found_from_anywhere(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--model_name_or_path runs/sft` looks like a name on the Hub to whoever loads the adapter elsewhere."""
    monkeypatch.chdir(tmp_path)
    adapter = tmp_path / "adapter"
    get_peft_model(load_policy("base"), LoraConfig(fan_in_fan_out=True)).save_pretrained(adapter)

    named = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    assert Path(named) == base


def test_the_tokenizer_of_an_adapter_is_its_own_or_that_of_its_base(adapter: Path, base: Path) -> None:
    assert load_tokenizer(adapter).get_vocab() == load_tokenizer(base).get_vocab()
    own = load_tokenizer(base)
    own.add_tokens(["<own>"])
    own.save_pretrained(adapter)
    assert "<own>" in load_tokenizer(adapter).get_vocab()


def test_a_tokenizer_without_padding_pads_with_its_end(base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = None
    shutil.copytree(base, tmp_path / "unpadded")
    tokenizer.save_pretrained(tmp_path / "unpadded")
    assert load_tokenizer(tmp_path / "unpadded").pad_token == "<|end|>"


def test_what_trl_says_about_loading_reaches_from_pretrained() -> None:
    kwargs = model_kwargs(ModelConfig(dtype="bfloat16", attn_implementation="eager", model_revision="v2"))
    assert kwargs == {
        "dtype": "bfloat16",
        "attn_implementation": "eager",
        "revision": "v2",
        "trust_remote_code": False,
    }


def test_a_tokenizer_comes_from_the_commit_of_its_model(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that of an adapter's base, and the one that is saved beside a merged model."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def load(name: Any, **kwargs: Any) -> Any:
        asked.append((Path(name).name, kwargs))
        return from_pretrained(name, **kwargs)

    from_pretrained = AutoTokenizer.from_pretrained
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", load)
    loading = model_kwargs(ModelConfig(dtype="float32", model_revision="v2"), trust_remote_code=True)
    load_tokenizer(adapter, **tokenizer_kwargs(loading))
    load_policy(adapter, merge_into=tmp_path / "merged", **loading)
    assert asked == [("base", {"revision": "v2", "trust_remote_code": True})] * 2


def test_a_model_that_is_not_there_is_not_sought_on_the_hub(base: Path, tmp_path: Path) -> None:
    for name in (str(tmp_path / "sft"), "tests/sft", "./sft"):  # `tests` is a folder here
        with pytest.raises(FileNotFoundError, match=f"{name}, and there is no such directory"):
            require_model(name)
    require_model("organisation/name")
    require_model(base)


@pytest.mark.parametrize(
    ("targets", "missing"),
    [
        (["c_attn", "q_proj"], "q_proj"),
        (["c_attn", "transformer.h.1.mlp.c_fc"], None),
        (["q_proj"], "q_proj"),
        (["c_attn"], "c_attn"),  # ModelConfig makes a pattern of it, which peft matches against whole names
        ([".*c_attn"], None),
        (["all-linear"], None),
    ],
)
def test_lora_on_modules_that_the_model_lacks(targets: list[str], missing: str | None, base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    settings = ModelConfig(use_peft=True, lora_target_modules=targets)
    if missing:
        with pytest.raises(ValueError, match=f"names {missing}, which the model lacks; .* c_attn, c_fc"):
            require_lora_targets(model, settings)
    else:
        require_lora_targets(model, settings)
        assert get_peft_model(model, get_peft_config(settings))


def test_weights_are_looked_for(tmp_path: Path) -> None:
    assert not has_weights(str(tmp_path))
    assert not has_weights("nobody/has-this-model")
    (tmp_path / "model.safetensors").touch()
    assert has_weights(str(tmp_path))


def test_what_is_saved_beside_weights_is_none(tmp_path: Path) -> None:
    for name in ("training_args.bin", "optimizer.bin", "model-00001-of-00002.safetensors"):
        (tmp_path / name).touch()
    assert not has_weights(tmp_path)
    with pytest.raises(FileNotFoundError, match="which holds no weights"):
        require_model(tmp_path)
    (tmp_path / "model.safetensors.index.json").touch()  # written last
    require_model(tmp_path)
