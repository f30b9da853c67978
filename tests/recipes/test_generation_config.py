"""A base model's `generation_config.json` changes no list: not in training, nor in validation, nor in evaluation."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from rankrl.run.models import load_policy
from recipes import evaluate, rank_grpo
from tests.recipes.runs import LORA, PAIRS, SMALL, Files, logits, run

HOSTILE = {
    "do_sample": True,
    "temperature": 5.0,
    "top_k": 1,
    "min_p": 0.9,
    "repetition_penalty": 5.0,
    "min_new_tokens": 20,
    "suppress_tokens": list(range(5, 100)),
    "eos_token_id": list(range(100, 400)),
}


@pytest.fixture
def hostile_model(sft_model: Path, tmp_path: Path) -> Path:
    """What SFT left, as it would be had the base model asked for every oddity."""
    directory = tmp_path / sft_model.name
    shutil.copytree(sft_model, directory, ignore=shutil.ignore_patterns("checkpoint-*"))
    GenerationConfig(**HOSTILE).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("settings", [{}, LORA], ids=["all weights", "LoRA"])
def test_training_and_validation_are_the_same_bit_for_bit(
    settings: dict[str, Any],
    files: Files,
    sft_model: Path,
    hostile_model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = {**SMALL, **PAIRS, **settings, "learning_rate": 1e-2, "validation": files.test, "validate_steps": 1}
    results = []
    for name, model in (("plain", sft_model), ("hostile", hostile_model)):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            run(rank_grpo, **files.training, **settings, model_name_or_path=model, output_dir=tmp_path / name)
        record = json.loads((tmp_path / name / "validation.json").read_text(encoding="utf-8"))
        ranks = (tmp_path / name / "ranks_train.jsonl").read_text(encoding="utf-8")
        results.append((record, ranks, logits(load_policy(tmp_path / name))))
    assert "asks for" in caplog.text, "the log names what does not count"
    assert "'repetition_penalty': 5.0" in caplog.text
    assert "lists are sampled with {" in caplog.text

    (plain, plain_ranks, plain_logits), (hostile, hostile_ranks, hostile_logits) = results
    assert hostile == plain
    assert hostile_ranks == plain_ranks
    assert torch.equal(hostile_logits, plain_logits)


def test_evaluation_writes_the_same_lists(files: Files, sft_model: Path, hostile_model: Path, tmp_path: Path) -> None:
    reports = []
    for name, model in (("plain", sft_model), ("hostile", hostile_model)):
        output = tmp_path / f"{name}.json"
        run(evaluate, catalog=files.catalog, dialogues=files.test, model_name_or_path=model, output=output)
        reports.append(json.loads(output.read_text(encoding="utf-8")))
    assert reports[0]["lists"] == reports[1]["lists"]
    assert reports[0]["generation"] == reports[1]["generation"]
    assert reports[0]["generation"]["do_sample"] is False
