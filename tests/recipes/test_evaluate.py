"""Evaluation writes a greedy list for each dialogue with the stage's prompt, and scores it as the library does."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from catalog import Catalog
from rankrl.data import Dialogue, PromptRenderer, load_dialogues, save_dialogues
from rankrl.data.simulation import shuffled
from rankrl.evaluation import evaluate as score
from rankrl.metrics import Popularity
from rankrl.run.arguments import EvaluationArguments, WriterArguments
from rankrl.run.lists import ListWriter
from recipes import evaluate, rank_grpo
from tests.recipes.runs import NUM_RANKS, PAIRS, SMALL, Files, run


def report(files: Files, model: Path, output: Path, **settings: Any) -> dict[str, Any]:
    """What the recipe writes about a model on the held-out dialogues."""
    data = {"catalog": files.catalog, "dialogues": files.test}
    run(evaluate, **{**data, "model_name_or_path": model, "output": output, **settings})
    return json.loads(output.read_text(encoding="utf-8"), parse_constant=pytest.fail)


@pytest.mark.parametrize("stage", ["sft_model", "sft_adapter"])
def test_every_dialogue_gets_a_list_and_the_scores_are_those_of_the_lists(
    stage: str, files: Files, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    model = request.getfixturevalue(stage)
    written = report(files, model, tmp_path / "deep" / "scores.json")

    dialogues, catalog = load_dialogues(files.test), Catalog.load(files.catalog)
    lists = [written["lists"][dialogue.id] for dialogue in dialogues]
    expected = score(lists, dialogues, catalog, num_ranks=NUM_RANKS).summary()
    assert written["rows"] == len(dialogues)
    metrics = written["metrics"][model.name]
    assert {name: value["mean"] for name, value in metrics.items()} == pytest.approx(expected)
    assert all(value["low"] <= value["mean"] <= value["high"] for value in metrics.values())
    assert "In catalogue" in capsys.readouterr().out


def test_scores_of_other_ranks_than_five_ten_and_twenty_are_shown(
    files: Files, sft_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(files, sft_model, tmp_path / "scores.json")
    assert f"NDCG@{NUM_RANKS}" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["", "checkpoint-1"])
def test_a_stage_and_its_checkpoints_bring_their_own_prompt(place: str, files: Files, sft_model: Path) -> None:
    arguments = WriterArguments(model_name_or_path=str(sft_model / place))
    writer = ListWriter.load(arguments, Catalog.load(files.catalog))

    trained_with = PromptRenderer.load(sft_model, AutoTokenizer.from_pretrained(sft_model))
    assert writer.renderer.hash == trained_with.hash
    for dialogue in load_dialogues(files.train):
        assert writer.renderer.render(dialogue.messages) == trained_with.render(dialogue.messages)


def test_a_long_dialogue_leaves_room_for_the_list(files: Files, sft_model: Path, tmp_path: Path) -> None:
    # Trained with shorter lists than the catalogue's longest lines suggest, so with longer prompts.
    settings = {**SMALL, **PAIRS, "max_completion_length": 48, "model_name_or_path": sft_model}
    with pytest.warns(UserWarning, match="may cut lists of long titles"):
        run(rank_grpo, **files.training, **settings, output_dir=tmp_path / "rl")

    *_, long = load_dialogues(files.train)
    save_dialogues(tmp_path / "long.jsonl", [long])
    written = report(files, tmp_path / "rl", tmp_path / "scores.json", dialogues=tmp_path / "long.jsonl")
    assert written["rows"] == 1


def test_a_model_that_was_not_trained_here_gets_the_prompt_of_the_arguments(
    files: Files, policy: Path, tmp_path: Path
) -> None:
    settings = {"num_ranks": 2, "prompt_template": SMALL["prompt_template"], "max_completion_length": 40}
    written = report(files, policy, tmp_path / "scores.json", **settings)
    assert {name for name in written["metrics"][policy.name] if name.startswith("ndcg@")} == {"ndcg@2"}


def test_a_trained_model_writes_the_lists_it_was_trained_to_write(
    files: Files, sft_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"num_ranks is 20, but .* was trained to write {NUM_RANKS} items"):
        report(files, sft_model, tmp_path / "scores.json", num_ranks=20)
    with pytest.raises(ValueError, match=r"prompt_template is 'book', but .* was trained with another one"):
        report(files, sft_model, tmp_path / "scores.json", prompt_template="book")


def test_popularity_stands_beside_the_model(
    files: Files, sft_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Known answer: the most wanted films of the training data for everybody, without what they mentioned."""
    written = report(files, sft_model, tmp_path / "scores.json", popularity_from=files.train)

    catalog, test = Catalog.load(files.catalog), load_dialogues(files.test)
    wanted = Counter(catalog.resolve(item) for d in load_dialogues(files.train) for item in d.ground_truth)
    popular = sorted(range(len(catalog)), key=lambda item: (-wanted[item], item))
    texts = []
    for dialogue in test:
        mentioned = {catalog.resolve(item) for item in dialogue.seen}
        shown = [catalog.lines[item] for item in popular if item not in mentioned][:NUM_RANKS]
        texts.append("\n".join(shown))
    popularity = Popularity.of([[item] for item in wanted.elements()], len(catalog))
    expected = score(texts, test, catalog, num_ranks=NUM_RANKS, popularity=popularity).summary()
    metrics = written["metrics"]["popularity"]
    assert {name: value["mean"] for name, value in metrics.items()} == pytest.approx(expected)
    assert metrics[f"popularity@{NUM_RANKS}"]["mean"] > 0.8

    lists = [written["lists"][dialogue.id] for dialogue in test]
    expected = score(lists, test, catalog, num_ranks=NUM_RANKS, popularity=popularity).summary()
    metrics = written["metrics"][sft_model.name]
    assert {name: value["mean"] for name, value in metrics.items()} == pytest.approx(expected)
    assert f"tail_recall@{NUM_RANKS}" in expected
    assert {"Tail", f"recall@{NUM_RANKS}"} <= set(capsys.readouterr().out.split())


def test_a_limit_of_the_test_is_none_of_the_training(files: Files, sft_model: Path, tmp_path: Path) -> None:
    settings = {"popularity_from": str(files.train), "limit": 2}
    assert report(files, sft_model, tmp_path / "few.json", **settings)["rows"] == 2
    where = EvaluationArguments(catalog="", dialogues="", **settings)
    wanted = evaluate.wanted_in_training(where, Catalog.load(files.catalog))
    assert wanted is not None
    assert len(wanted) == len(load_dialogues(files.train))


def test_the_yardstick_of_a_small_catalogue_has_shorter_lists() -> None:
    catalog = Catalog([("Heat", 1995), ("Up", 2009)])
    test = [Dialogue("a:0:0", [{"role": "user", "content": "?"}], ["Heat (1995)"], ["Up (2009)"])]
    scores = evaluate.score_popularity(catalog, [{0: 1.0}, {1: 1.0}], test, 2)
    assert scores.summary()["ndcg@2"] == 1.0


def test_requests_can_be_swapped_between_users(files: Files, sft_model: Path, tmp_path: Path) -> None:
    plain = report(files, sft_model, tmp_path / "plain.json")["lists"]
    swapped = report(files, sft_model, tmp_path / "swapped.json", shuffle_requests=3)["lists"]

    dialogues = load_dialogues(files.test)
    by_request = {json.dumps(dialogue.messages): plain[dialogue.id] for dialogue in dialogues}
    for dialogue in shuffled(dialogues, 3):
        assert swapped[dialogue.id] == by_request[json.dumps(dialogue.messages)]


def test_rows_whose_wanted_items_were_mentioned_are_left_out_unless_told(
    files: Files, sft_model: Path, tmp_path: Path
) -> None:
    first, *others = load_dialogues(files.test)
    save_dialogues(tmp_path / "test.jsonl", [replace(first, seen=first.ground_truth), *others])
    data = {"dialogues": tmp_path / "test.jsonl"}

    assert report(files, sft_model, tmp_path / "new.json", **data)["rows"] == len(others)
    everything = report(files, sft_model, tmp_path / "all.json", **data, only_new_items=False)
    assert everything["rows"] == len(others) + 1


def test_a_place_that_cannot_take_the_scores_is_refused_before_a_list_is_written(
    files: Files, sft_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(IsADirectoryError, match="a folder; expected the JSON file for the scores"):
        report(files, sft_model, tmp_path)
    assert "Writing lists" not in "".join(capfd.readouterr())
