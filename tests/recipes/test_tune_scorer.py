"""A tiny scorer learns an easy rule from a teacher, better than a constant, and is loaded as it was measured."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog import Catalog, ItemReference
from rankrl.data import Dialogue, hold_out, load_dialogues, save_dialogues
from rankrl.labels import LocalScorer, ScoredDialogue, ScoredItem, encode_pairs, load_scores, save_scores
from recipes import tune_scorer
from tests.recipes.runs import REPOSITORY, run, tokenizer_asked_for

WORDS = {"murder": 4.0, "heist": 3.0, "romance": 1.0, "puppets": 0.0}
TINY = REPOSITORY / "recipes" / "configs" / "tiny" / "tune_scorer.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Films that each have one telling word; 24 dialogues, in each of which the teacher scores six films by it."""
    folder = tmp_path_factory.mktemp("scores")
    words = list(WORDS)
    catalog = Catalog([(f"The {words[n % 4]} of number {n}", 1960 + n) for n in range(40)])
    catalog.save(folder / "catalog.jsonl")
    rng = np.random.default_rng(0)
    dialogues, rows = [], []
    for number in range(24):
        talk = [{"role": "user", "content": f"It is evening number {number}. Something dark?"}]
        dialogues.append(Dialogue(f"talk:{number // 2}:{number % 2}", talk, [], [catalog.lines[0]]))
        films = rng.choice(40, size=6, replace=False).tolist()
        scored = [ScoredItem(ItemReference(catalog.keys[film]), WORDS[words[film % 4]]) for film in films]
        rows.append(ScoredDialogue(dialogues[-1].id, "rule", (*scored, ScoredItem(ItemReference("unrated"), None))))
    save_dialogues(folder / "train.jsonl", dialogues)
    save_scores(folder / "scores.jsonl", rows)
    return {
        name: folder / file
        for name, file in (("catalog", "catalog.jsonl"), ("dialogues", "train.jsonl"), ("scores", "scores.jsonl"))
    }


@pytest.fixture(scope="module")
def tuned(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("scorer")
    settings = {"max_length": 64, "max_steps": 160, "warmup_steps": 5, "tiny_vocab_size": 500}
    run(tune_scorer, config=TINY, **data, **settings, output_dir=output)
    return output


def metrics_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "metrics.json").read_text(encoding="utf-8"))


def test_it_learns_what_a_constant_cannot(tuned: Path) -> None:
    metrics = metrics_of(tuned)
    scorer, mean = metrics["scorer"], metrics["mean"]
    assert scorer["mse"] < 0.2 * mean["mse"]
    assert scorer["spearman"] > 0.8
    assert scorer["recall"] > 0.6
    assert (mean["spearman"], mean["precision"], mean["recall"]) == (None, None, 0.0)
    assert metrics["pairs"] == {"learned": 120, "held_out": 24}


def test_it_is_loaded_as_it_was_measured(tuned: Path, data: dict[str, Path]) -> None:
    catalog, dialogues = Catalog.load(data["catalog"]), load_dialogues(data["dialogues"])
    rated = tune_scorer.rated_dialogues(catalog, dialogues, load_scores(data["scores"]))
    scorer = LocalScorer.load(tuned, device="cpu", quiet=True)
    assert scorer.tokenizer.model_max_length == 64
    found = tune_scorer.measure(scorer, *hold_out(rated, 0.2, seed=42, row_id=lambda row: row.dialogue.id), 3.5)
    assert found["scorer"]["mse"] == pytest.approx(metrics_of(tuned)["scorer"]["mse"], rel=1e-3)
    assert found["mean"] == metrics_of(tuned)["mean"]


def test_the_general_config_tunes_an_adapter_that_loads(data: dict[str, Path], tmp_path: Path) -> None:
    laptop = {"use_cpu": True, "bf16": False, "max_steps": 2, "model_name_or_path": "tiny-gpt2", "max_length": 64}
    run(tune_scorer, config=TINY.parent.parent / "tune_scorer.yaml", **data, **laptop, output_dir=tmp_path)
    assert (tmp_path / "adapter_config.json").is_file()
    scorer = LocalScorer.load(tmp_path, device="cpu", quiet=True)
    (scores,) = scorer.score([[{"role": "user", "content": "Something dark?"}]], [["The murder (1960)", "Up (2009)"]])
    assert scores.shape == (2,)
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["inputs"][str(data["scores"])]


def test_its_tokenizer_comes_from_the_commit_of_its_model(data: dict[str, Path], policy: Path, tmp_path: Path) -> None:
    settings = {**data, "model_name_or_path": policy, "output_dir": tmp_path, "model_revision": "v2"}
    asked = tokenizer_asked_for(tune_scorer, config=TINY, **settings)
    assert asked == {"revision": "v2", "trust_remote_code": False}


def test_scores_are_aligned_by_id(data: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    catalog, dialogues = Catalog.load(data["catalog"]), load_dialogues(data["dialogues"])
    scores = load_scores(data["scores"])
    reversed_rows = tune_scorer.rated_dialogues(catalog, dialogues[:0:-1], scores)
    assert [row.dialogue.id for row in reversed_rows] == [dialogue.id for dialogue in dialogues[1:]]
    assert "1 of 24 scored dialogues are not among the dialogues: 'talk:0:0'" in caplog.text
    for row in reversed_rows:
        expected = [WORDS[text.split()[1]] for text in row.items]
        assert row.scores == expected


def test_scores_of_other_data_are_refused(data: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    catalog, dialogues = Catalog.load(data["catalog"]), load_dialogues(data["dialogues"])
    scores = load_scores(data["scores"])
    others = [replace(dialogue, id=f"other:{dialogue.id}") for dialogue in dialogues]
    with pytest.raises(ValueError, match="24 of 24 scored dialogues.*the ids they had"):
        tune_scorer.rated_dialogues(catalog, others, scores)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(ValueError, match="give the one they were made for"),
    ):
        tune_scorer.rated_dialogues(Catalog([("Heat", 1995)]), dialogues, scores)
    assert "144 rated items are not in the catalogue" in caplog.text


def test_tuning_reads_the_pairs_of_scoring(tuned: Path, data: dict[str, Path]) -> None:
    catalog, dialogues = Catalog.load(data["catalog"]), load_dialogues(data["dialogues"])
    (rated, *_) = tune_scorer.rated_dialogues(catalog, dialogues, load_scores(data["scores"]))
    tokenizer = LocalScorer.load(tuned, device="cpu").tokenizer
    rows = tune_scorer.pair_dataset(tokenizer, [rated])
    pairs, _ = encode_pairs(tokenizer, [(rated.dialogue.messages, item) for item in rated.items])
    assert rows["input_ids"][:] == [pair["input_ids"] for pair in pairs]
    assert rows["labels"][:] == [(score - 2) / 2 for score in rated.scores]
