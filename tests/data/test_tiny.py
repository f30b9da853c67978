"""The tiny tokenizers have the features that they are there for; otherwise tests with them prove nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests import conftest, tiny

TEXT = "Heat (1995)\nAmélie (2001)\n\nThe 🎬 Thing (1982)\n"


def pieces(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_the_fixture_runs_through_all_families() -> None:
    assert set(conftest.FAMILIES) == set(tiny.FAMILIES)


def test_every_family_writes_any_text(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == TEXT
    assert len(ids) > len(pieces(tokenizer, TEXT.replace("🎬", ""))) + 1  # a character split over tokens
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "llama3"])
def test_byte_level_families_glue_line_breaks_to_other_tokens(name: str) -> None:
    tokenizer = tiny.FAMILIES[name]()
    assert {")Ċ", ")ĊĊ"} <= set(pieces(tokenizer, "Heat (1995)\nUp (2009)\n\n"))
    assert "ĊĊ" in pieces(tokenizer, "Heat\n\nUp")


def test_sentencepiece_families(
    llama2_tokenizer: PreTrainedTokenizerFast, gemma_tokenizer: PreTrainedTokenizerFast
) -> None:
    assert pieces(llama2_tokenizer, "Up\nUp")[0].startswith("▁")
    assert "<0x0A>" in pieces(llama2_tokenizer, "Up\nUp")
    assert {"\n", "\n\n"} <= set(pieces(gemma_tokenizer, "Up\nUp\n\nUp"))
    assert not pieces(gemma_tokenizer, "Up")[0].startswith("▁")
    assert {"<0xC3>", "<0xA9>"} <= set(pieces(llama2_tokenizer, "é")) & set(pieces(gemma_tokenizer, "é"))


def test_families_that_cannot_write_lists(
    wordpiece_tokenizer: PreTrainedTokenizerFast, endless_tokenizer: PreTrainedTokenizerFast
) -> None:
    assert "\n" not in wordpiece_tokenizer.decode(wordpiece_tokenizer(TEXT)["input_ids"])
    assert endless_tokenizer.eos_token_id is None


@pytest.mark.parametrize("build", [tiny.tiny_gpt2, tiny.tiny_qwen2, tiny.tiny_llama])
def test_models_are_the_same_for_the_same_seed(build: type, tokenizer: PreTrainedTokenizerFast) -> None:
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    one, same, other = (build(tokenizer, seed=seed)(ids).logits for seed in (1, 1, 2))
    assert one.shape == (*ids.shape, len(tokenizer))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
