"""The README that a finished stage leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import ModelCard

from rankrl.run.model_card import leave_model_card, model_card
from recipes import rank_grpo
from tests.recipes.runs import LORA, NUM_RANKS, PAIRS, SMALL, Files, run


def card_of(folder: Path) -> tuple[dict, str]:
    _, metadata, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(metadata), text


def test_sft_says_what_it_made_and_how_to_use_it(sft_model: Path) -> None:
    metadata, text = card_of(sft_model)
    assert metadata == {"tags": ["rankrl", "recommendation", "sft"], "pipeline_tag": "text-generation"}
    assert text.startswith("\n# sft_full\n")
    manifest = json.loads((sft_model / "manifest.json").read_text(encoding="utf-8"))
    prompt = json.loads((sft_model / "rankrl_prompt.json").read_text(encoding="utf-8"))
    for said in (f"list of {NUM_RANKS} items", "50 (version", manifest["catalog"]["version"], prompt["hash"]):
        assert said in text
    assert f"recipes.recommend --model_name_or_path {sft_model} --catalog" in text
    assert "supervised fine-tuning" in text


def test_rank_grpo_takes_the_place_of_the_draft_of_trl(files: Files, sft_adapter: Path, tmp_path: Path) -> None:
    settings = {**SMALL, **PAIRS, **LORA, "preset": "gspo", "save_strategy": "steps", "save_steps": 1}
    run(rank_grpo, **files.training, **settings, model_name_or_path=sft_adapter, output_dir=tmp_path / "rl")
    metadata, text = card_of(tmp_path / "rl")
    assert metadata["tags"] == ["rankrl", "recommendation", "rank-grpo"]
    assert metadata["library_name"] == "peft"
    assert "Rank-GRPO (`preset: gspo`)" in text
    assert f"| started from | {sft_adapter} |" in text


def test_a_model_of_the_hub_is_named_as_the_base(sft_model: Path, tmp_path: Path) -> None:
    manifest = json.loads((sft_model / "manifest.json").read_text(encoding="utf-8"))
    manifest["config"]["ModelConfig"]["model_name_or_path"] = "Qwen/Qwen2.5-0.5B-Instruct"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert "base_model: Qwen/Qwen2.5-0.5B-Instruct\n" in model_card(tmp_path)


def test_a_model_that_was_pushed_gets_this_card_too(
    sft_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(sft_model / "manifest.json", tmp_path)
    pushed = []
    monkeypatch.setattr(ModelCard, "push_to_hub", lambda card, name, token: pushed.append((card.content, name, token)))
    args = SimpleNamespace(output_dir=str(tmp_path), push_to_hub=True, hub_token="secret")
    leave_model_card(SimpleNamespace(args=args, hub_model_id="me/films", is_world_process_zero=lambda: True))
    assert pushed == [((tmp_path / "README.md").read_text(encoding="utf-8"), "me/films", "secret")]
