"""`docs/evaluate.md`, `docs/serve.md` and `docs/rank_grpo.md`: their Python, run as a reader would."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from catalog import Catalog
from rankrl.data import PromptRenderer, load_dialogues, save_dialogues
from tests.recipes.runs import NUM_RANKS, REPOSITORY, Files

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    return BLOCK.findall((REPOSITORY / "docs" / page).read_text(encoding="utf-8"))


def follow(code: str, **names: Any) -> dict[str, Any]:
    """What the code has defined at its end."""
    exec(compile(code, "page", "exec"), names)
    return names


@pytest.fixture
def place(files: Files, sft_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pages name."""
    Catalog.load(files.catalog).save(tmp_path / "catalog.jsonl")
    save_dialogues(tmp_path / "test.jsonl", load_dialogues(files.test))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "rank_grpo").symlink_to(sft_adapter)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_models_are_compared_in_pairs(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog, test = Catalog.load(files.catalog), load_dialogues(files.test)
    catalog.save(tmp_path / "catalog.jsonl")
    save_dialogues(tmp_path / "test.jsonl", test)
    lists = {
        "sft": {row.id: catalog.lines[0] for row in test},
        "rank_grpo": {
            row.id: "\n".join(catalog.lines[catalog.resolve(item)] for item in row.ground_truth) for row in test
        },
    }
    for name, texts in lists.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "test.json").write_text(json.dumps({"lists": texts}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("evaluate.md")
    scores = follow(code)["scores"]
    assert scores["rank_grpo"].summary()["ndcg@10"] == 1.0
    assert scores["rank_grpo"].differences(scores["sft"])["ndcg@10"].low > 0


def test_a_list_for_an_application(place: Path) -> None:
    code, _ = blocks("serve.md")
    found = follow(code)
    assert found["ranked"].shape == (1, NUM_RANKS)
    assert found["items"].shape == (5,)


def test_an_adapter_becomes_one_model_with_its_prompt(place: Path) -> None:
    _, code = blocks("serve.md")
    follow(code)
    model, tokenizer = (kind.from_pretrained("runs/served") for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert not hasattr(model, "peft_config")
    assert PromptRenderer.load("runs/served", tokenizer).num_ranks == NUM_RANKS


def test_the_trainer_in_a_script(
    files: Files, sft_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Catalog.load(files.catalog).save(tmp_path / "catalog.jsonl")
    save_dialogues(tmp_path / "train.jsonl", load_dialogues(files.test))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "sft").symlink_to(sft_model)
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("rank_grpo.md")
    on_a_cpu = "max_steps=2, num_generations=4, use_cpu=True, bf16=False, report_to=[]"
    assert "max_steps=100" in code
    trainer = follow(code.replace("max_steps=100", on_a_cpu))["trainer"]
    assert trainer.state.global_step == 2
    assert (tmp_path / "runs" / "rank_grpo" / "ranks_train.jsonl").is_file()
