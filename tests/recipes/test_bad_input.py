"""What cannot work is refused before training, with the reason and the way out."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rankrl.data import DialogueError, load_dialogues, save_dialogues
from rankrl.run.errors import explain_errors
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
    with pytest.raises(ValueError, match=r"holds nothing of what .*songs.jsonl want: is it the catalogue"):
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


# ---- What a person sees ----------------------------------------------------------------------------------------------


def end_of(recipe: ModuleType, capsys: pytest.CaptureFixture[str], **settings: Any) -> str:
    """The last words of a recipe that is expected to refuse its settings, as its process prints them."""
    explain_errors()
    with pytest.raises((Exception, SystemExit)) as raised:
        run(recipe, **settings)
    if raised.type is not SystemExit:  # the parser's, which has printed its words
        sys.excepthook(raised.type, raised.value, raised.tb)
    printed = capsys.readouterr()
    assert "time left" not in printed.out, "it trained before it complained"
    lines = printed.err.splitlines()
    first = next(at for at, line in enumerate(lines) if re.match(r"(\w+\.py: )?error\b", line))
    return "\n".join(lines[first:])


def leave_unfinished(policy: Path, folder: Path) -> Path:
    """What a training that was interrupted leaves: no weights but in its checkpoints."""
    shutil.copytree(policy, folder / "checkpoint-2")
    (folder / "checkpoint-2" / "trainer_state.json").write_text("{}", encoding="utf-8")
    for path in policy.glob("*.json"):
        shutil.copy(path, folder)
    return folder


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "groups": ({"num_generations": 3}, r"num_generations is 3, which does not divide the 4 lists"),
    "no model": ({"model_name_or_path": "{tmp}/sft"}, r"model_name_or_path is .*/sft, and there is no such directory"),
    "unfinished": ({"model_name_or_path": "{unfinished}"}, r"no weights.*let it go on .*or name \S+/checkpoint-2\."),
    "no catalogue": ({"catalog": "{tmp}/films.jsonl"}, r"catalog is .*/films.jsonl, and there is no such file"),
    "long lists": ({"num_ranks": 20}, r"20 lines may take \d+ tokens .*no room for a dialogue in .* context of 256"),
    "more than items": ({"num_ranks": 60}, r"num_ranks is 60, but the catalogue holds 50 items"),
    "other items": ({"validation": "{songs}"}, r"not in the catalogue of 50 items, for example 'Song"),
    "flag": ({"num_rnaks": 3}, r"no such settings: --num_rnaks 3. Did you mean --num_ranks\?"),
    "value": ({"num_ranks": "three"}, r"--num_ranks.*invalid int value: 'three'"),
    "YAML": ({"config": "{yaml}"}, r"Unknown arguments from config file .*: num_rnaks"),
    "LoRA": ({"use_peft": True, "lora_target_modules": "q_proj"}, r"names q_proj, which the model lacks.*c_attn, c_fc"),
    "no dialogues": ({"dialogues": "{empty}"}, r"empty.jsonl has no dialogue to work on"),
    "best of no eval set": (
        {"save_strategy": "best", "metric_for_best_model": "loss"},
        r"save_strategy is 'best'.*--validation",
    ),
    "eval set": ({"eval_strategy": "steps", "eval_steps": 1}, r"eval_strategy is 'steps', but.*--validation"),
    "report": ({"report_to": "nowhere"}, r"report_to names nowhere, which is not installed or unknown"),
    "checkpoint": ({"resume_from_checkpoint": "{tmp}/checkpoint-9"}, r"checkpoint-9, which is no checkpoint"),
    "a library's": ({"attn_implementation": "flash_attention_2"}, r"error \(transformers\): FlashAttention2 has been"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_said_in_one_message(
    mistake: str,
    files: Files,
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    given, said = MISTAKES[mistake]
    names = {"tmp": tmp_path, "yaml": tmp_path / "my.yaml", "unfinished": tmp_path}
    names |= {name: tmp_path / f"{name}.jsonl" for name in ("songs", "empty")}
    if mistake == "other items":
        songs = [replace(d, ground_truth=[(f"Song {d.id}", 2020)]) for d in load_dialogues(files.test)]
        save_dialogues(names["songs"], songs)
    if mistake == "no dialogues":
        names["empty"].touch()
    if mistake == "YAML":
        names["yaml"].write_text("num_rnaks: 3\n", encoding="utf-8")
    if mistake == "unfinished":
        leave_unfinished(policy, tmp_path)
    given = {name: value.format(**names) if isinstance(value, str) else value for name, value in given.items()}
    settings = {**files.training, **TRAINING[rank_grpo], "model_name_or_path": policy, "output_dir": tmp_path / "run"}

    words = end_of(rank_grpo, capsys, **{**settings, **given})
    assert re.search(said, words), words
    assert len(words.splitlines()) <= 2, words
