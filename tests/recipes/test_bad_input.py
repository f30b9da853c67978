"""What cannot work is refused before training, with the reason and the way out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rankrl.data import DialogueError, load_dialogues, save_dialogues
from recipes import evaluate, rank_grpo, sft
from tests import tiny
from tests.recipes.runs import PAIRS, SMALL, Files, run

TRAINING = {sft: SMALL, rank_grpo: {**SMALL, **PAIRS}}
RECIPES = pytest.mark.parametrize("recipe", [sft, rank_grpo], ids=lambda recipe: recipe.__name__)


def start(recipe: ModuleType, files: Files, model: Path, output: Path, **settings: Any) -> None:
    """Start a stage that is expected not to get far."""
    run(recipe, **{**files.training, **TRAINING[recipe], "model_name_or_path": model, "output_dir": output, **settings})


@RECIPES
def test_missing_columns(recipe: ModuleType, files: Files, policy: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in files.train.read_text(encoding="utf-8").splitlines()]
    renamed = [{"chat": row["messages"], "liked": row["ground_truth"]} for row in rows]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in renamed), encoding="utf-8")

    with pytest.raises(DialogueError, match=r"chats.jsonl: messages.*'chat', 'liked'") as error:
        start(recipe, files, policy, tmp_path / "run", dialogues=path)
    assert [problem.field for problem in error.value.problems] == ["messages", "ground_truth"]


@RECIPES
def test_empty_ground_truth(recipe: ModuleType, files: Files, policy: Path, tmp_path: Path) -> None:
    dialogues = load_dialogues(files.train)
    save_dialogues(tmp_path / "empty.jsonl", [*dialogues[:4], replace(dialogues[4], ground_truth=[])])

    with pytest.raises(DialogueError, match=r"empty.jsonl:5: ground_truth: got \[\]; expected at least one item"):
        start(recipe, files, policy, tmp_path / "run", dialogues=tmp_path / "empty.jsonl")


@RECIPES
def test_titles_of_another_catalogue(recipe: ModuleType, files: Files, policy: Path, tmp_path: Path) -> None:
    dialogues = [replace(d, ground_truth=[(f"Song {d.id}", 2020)]) for d in load_dialogues(files.untaught)]
    save_dialogues(tmp_path / "songs.jsonl", dialogues)

    with pytest.raises(ValueError, match="not in the catalogue of 50 items, for example 'Song demo-train:0:0"):
        start(recipe, files, policy, tmp_path / "run", dialogues=tmp_path / "songs.jsonl")
    data = {"catalog": files.catalog, "dialogues": tmp_path / "songs.jsonl"}
    settings = {"model_name_or_path": policy, "num_ranks": 2, "prompt_template": SMALL["prompt_template"]}
    with pytest.raises(ValueError, match="not in the catalogue of 50 items"):
        run(evaluate, **data, **settings)


def test_lists_that_do_not_fit_the_completion(files: Files, policy: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"max_completion_length=9 cuts the list.*set max_completion_length to \d+"):
        start(rank_grpo, files, policy, tmp_path, max_completion_length=9)


@RECIPES
def test_lists_that_do_not_fit_the_context(recipe: ModuleType, files: Files, policy: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leaves no room for a dialogue.*fewer ranks"):
        start(recipe, files, policy, tmp_path, num_ranks=20, dialogues=files.untaught)


def test_groups_that_do_not_divide_the_batch(files: Files, policy: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"num_generations is 3, which does not divide the 4 lists.*\[2, 4\]"):
        start(rank_grpo, files, policy, tmp_path, num_generations=3)


TOKENIZERS = {"endless_tokenizer": "has no end token", "wordpiece_tokenizer": "cannot write a line break"}


@RECIPES
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_that_cannot_write_lists(name: str, recipe: ModuleType, files: Files, tmp_path: Path) -> None:
    tokenizer = getattr(tiny, name)()
    tokenizer.save_pretrained(tmp_path / "model")
    tiny.tiny_gpt2(tokenizer).save_pretrained(tmp_path / "model")

    with pytest.raises(ValueError, match=TOKENIZERS[name]):
        start(recipe, files, tmp_path / "model", tmp_path / "run")


@RECIPES
def test_a_model_must_be_named(recipe: ModuleType, files: Files, tmp_path: Path) -> None:
    settings = {**files.training, **TRAINING[recipe], "output_dir": tmp_path}
    with pytest.raises(ValueError, match="model_name_or_path"):
        run(recipe, **settings)
