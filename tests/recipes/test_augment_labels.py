"""Augmented labels as a user makes them: from the simulated teacher, the encoder alone, or a server that may stop."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalog import Catalog
from rankrl.data import Dialogue, DialogueError, load_dialogues, save_dialogues
from rankrl.labels import load_scores
from rankrl.teachers import JudgeTemplate
from recipes import augment_labels, rank_grpo, tune_scorer
from tests.recipes.runs import PAIRS, REPOSITORY, SMALL, Files, run, trainer_of
from tests.recipes.teaching import SIMULATED, Teacher, asks, kinds, rate_by_length, shown
from tests.teachers.server import KEY, KEY_VARIABLE, ChatServer, Reply, serving

NUM_CANDIDATES = 15
TINY_SCORER = REPOSITORY / "recipes" / "configs" / "tiny" / "tune_scorer.yaml"
SETTINGS = {"num_candidates": NUM_CANDIDATES, "describe": "all"}


def make(files: Files, output: Path, **settings: Any) -> list[Dialogue]:
    """Run the recipe: the dialogues it wrote."""
    run(augment_labels, **{**files.training, **SETTINGS, "output_dir": output, **settings})
    return load_dialogues(output / "labels.jsonl", allow_empty_truth=True)


def metrics_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "metrics.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


def unknown_truth(folder: Path, dialogues: list[Dialogue], known: int = 0) -> Path:
    """The dialogues on disk; only of the first ones the truth is known."""
    path = folder / "unknown.jsonl"
    save_dialogues(path, [*dialogues[:known], *(replace(d, ground_truth=[]) for d in dialogues[known:])])
    return path


@pytest.fixture
def server(catalog: Catalog) -> Iterator[ChatServer]:
    with serving(Teacher(catalog, judge=rate_by_length)) as server:
        yield server


@pytest.fixture(scope="module")
def simulated(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("labels") / "simulated"
    make(files, output, **SIMULATED)
    return output


# What is written


def test_the_dialogues_stay_and_get_labels(simulated: Path, catalog: Catalog, dialogues: list[Dialogue]) -> None:
    augmented = load_dialogues(simulated / "labels.jsonl")
    assert [replace(dialogue, augmented=None) for dialogue in augmented] == dialogues
    counts = []
    for dialogue in augmented:
        items = [catalog.resolve(item) for item in dialogue.augmented or ()]
        gains = [item.gain for item in dialogue.augmented or ()]
        assert -1 not in items
        assert len(set(items)) == len(items) <= NUM_CANDIDATES
        assert not set(items) & {catalog.resolve(item) for item in dialogue.seen}
        assert all(0 < gain <= 1 for gain in gains)
        assert gains == sorted(gains, reverse=True), "best first"
        counts.append(len(items))
    assert sum(counts) > 20, "nothing above is about an empty list"


def test_gains_are_trust_times_score(simulated: Path) -> None:
    """Scores of the mean of two orders that are kept: 3.5 and 4."""
    for dialogue in load_dialogues(simulated / "labels.jsonl"):
        gains = sorted({item.gain for item in dialogue.augmented or ()})
        assert len(gains) <= 2
        if len(gains) == 2:
            assert gains[0] / gains[1] == pytest.approx(3.5 / 4, abs=1e-5)


def test_beside_the_rows_lie_card_metrics_and_manifest(simulated: Path, catalog: Catalog) -> None:
    metrics = metrics_of(simulated)
    assert list(metrics["sources"]) == ["simulated teacher", "TF-IDF alone"]
    teacher, alone = metrics["sources"].values()
    assert teacher["recovered"]["mean"] > alone["recovered"]["mean"]
    assert teacher["recovered"]["mean"] > teacher["by_chance"]["mean"]
    assert 0 < metrics["trust"] < 1
    card = (simulated / "card.md").read_text(encoding="utf-8")
    assert f"- trust in the source: {metrics['trust']:.3f}" in card
    assert "- num_candidates: 15" in card
    assert "- trust: measured" in card
    assert "simulated teacher" in (simulated / "card.html").read_text(encoding="utf-8")
    manifest = json.loads((simulated / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["catalog"]["version"] == catalog.version
    assert manifest["config"]["LabelArguments"]["num_candidates"] == 15
    assert manifest["teacher"] == {"name": "simulated teacher"}


def test_rank_grpo_is_rewarded_by_them(
    simulated: Path, files: Files, sft_model: Path, catalog: Catalog, tmp_path: Path
) -> None:
    """The column reaches the reward: at weight 0.5 a label earns half of its gain, a wanted item 1."""
    data = {"catalog": files.catalog, "dialogues": simulated / "labels.jsonl", "augmented_weight": 0.5}
    settings = {**SMALL, **PAIRS, "model_name_or_path": sft_model, "output_dir": tmp_path, "scale_rewards": "batch"}
    trainer = trainer_of(rank_grpo, **data, **settings)
    truth = [dialogue.ground_truth for dialogue in load_dialogues(files.train)]
    wanted = [{catalog.resolve(item) for item in items} for items in truth]
    row, label = next(
        (row, item)
        for row, dialogue in enumerate(load_dialogues(simulated / "labels.jsonl"))
        for item in dialogue.augmented or ()
        if catalog.resolve(item) not in wanted[row]
    )
    lines = [catalog.lines[item] for item in (catalog.resolve(label), min(wanted[row]))]
    given = {name: [trainer.train_dataset[row][name]] for name in ("ground_truth", "seen", "augmented")}
    (earned,) = trainer.reward_funcs[0].function(completions=["\n".join(lines)], **given)
    assert earned[:2] == pytest.approx([0.5 * label.gain, 1.0])

    run(rank_grpo, **data, **settings)
    assert (tmp_path / "model.safetensors").is_file()


# Who scores


def test_the_encoder_alone_needs_no_teacher(files: Files, tmp_path: Path) -> None:
    augmented = make(files, tmp_path, scorer="encoder")
    assert any(dialogue.augmented for dialogue in augmented)
    assert list(metrics_of(tmp_path)["sources"]) == ["TF-IDF"]
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "- scored by: TF-IDF" in card
    assert "## The judge" not in card


def test_a_local_scorer_tuned_on_the_scores(simulated: Path, files: Files, tmp_path: Path) -> None:
    """The whole way: the teacher's file of scores tunes a scorer, which then scores; nothing is kept twice."""
    scores = load_scores(simulated / "scores.jsonl")
    assert all(len(row.items) == NUM_CANDIDATES for row in scores.values())
    assert {row.source for row in scores.values()} == {"simulated teacher"}
    assert any(item.reason for row in scores.values() for item in row.items)
    scorer, output = tmp_path / "scorer", tmp_path / "labels"
    run(
        tune_scorer,
        config=TINY_SCORER,
        **files.training,
        scores=simulated / "scores.jsonl",
        max_steps=3,
        output_dir=scorer,
    )
    make(files, output, scorer=scorer, min_label_score=0.5)
    rows = load_scores(output / "scores.jsonl")
    assert {row.source for row in rows.values()} == {str(scorer)}
    found = [item.score for row in rows.values() for item in row.items]
    assert None not in found
    assert len(set(found)) > 10
    assert list(metrics_of(output)["sources"]) == [str(scorer), "TF-IDF alone"]
    assert not (output / "scores.part").exists()


def test_nobody_to_score(files: Files, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name a teacher \(teacher_model\), or set scorer to encoder"):
        make(files, tmp_path)


# How far they are trusted


def test_wrong_labels_are_trusted_less(simulated: Path, files: Files, tmp_path: Path) -> None:
    wrong = make(files, tmp_path, **SIMULATED, corrupt=1.0)
    assert metrics_of(tmp_path)["trust"] < metrics_of(simulated)["trust"] / 2
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "- corrupt: 1.0" in card
    right = load_dialogues(simulated / "labels.jsonl")
    paid, paid_wrong = (sum(i.gain for d in rows for i in d.augmented or ()) for rows in (right, wrong))
    assert paid_wrong < paid / 2


def test_dialogues_whose_truth_nobody_knows(files: Files, dialogues: list[Dialogue], tmp_path: Path) -> None:
    given = {**SIMULATED, "dialogues": unknown_truth(tmp_path, dialogues)}
    with pytest.raises(DialogueError, match="ground_truth: got"):
        make(files, tmp_path / "run", **given)
    with pytest.raises(ValueError, match=r"no dialogue has any: say how much .* --trust 0\.3"):
        make(files, tmp_path / "run", **given, allow_empty_truth=True)
    augmented = make(files, tmp_path / "run", **given, allow_empty_truth=True, trust=0.3)
    gains = {item.gain for dialogue in augmented for item in dialogue.augmented or ()}
    assert sorted(gains) == pytest.approx([0.3 * 3.5 / 4, 0.3])
    assert metrics_of(tmp_path / "run") == {"sources": {}, "trust": 0.3}
    assert "- given: 0.3" in (tmp_path / "run" / "card.md").read_text(encoding="utf-8")


def test_some_dialogues_without_a_truth_have_the_trust_of_the_others(
    files: Files, dialogues: list[Dialogue], tmp_path: Path
) -> None:
    some = unknown_truth(tmp_path, dialogues, known=9)
    augmented = make(files, tmp_path / "run", **SIMULATED, dialogues=some, allow_empty_truth=True)
    source = metrics_of(tmp_path / "run")["trust"]
    gains = [item.gain for dialogue in augmented[9:] for item in dialogue.augmented or ()]
    assert gains
    assert all(min(abs(gain - source * score / 4) for score in (3.5, 4)) < 1e-5 for gain in gains)


# A teacher that costs something


def test_a_second_run_asks_nothing(files: Files, server: ChatServer, tmp_path: Path) -> None:
    first = make(files, tmp_path / "one", **asks(server, tmp_path))
    assert kinds(server) == {"lists": 0, "descriptions": 50, "ratings": 26}
    calls = len(server.calls)
    assert make(files, tmp_path / "two", **asks(server, tmp_path)) == first
    assert len(server.calls) == calls
    assert "- calls: 0\n- cached: 76\n" in (tmp_path / "two" / "card.md").read_text(encoding="utf-8")


def test_reasons_are_asked_for_and_shown(files: Files, server: ChatServer, tmp_path: Path) -> None:
    make(files, tmp_path / "run", **asks(server, tmp_path))
    ratings = [text for text in server.asked() if "<candidates>\n" in text]
    assert all("and the reason in a" in text for text in ratings)
    assert re.search(r"\(\d{4}\): 4\.0, \d+ letters", (tmp_path / "run" / "card.html").read_text(encoding="utf-8"))


def test_a_dry_run_tells_everything_and_asks_nothing(
    files: Files, server: ChatServer, dialogues: list[Dialogue], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = {**files.training, **SETTINGS, **asks(server, tmp_path), "output_dir": tmp_path / "run"}
    run(augment_labels, **plan, dry_run=True)
    told = capsys.readouterr().out
    assert server.calls == []
    assert not (tmp_path / "run").exists()
    assert "50 requests, 50 of them not answered yet" in told, "descriptions"
    assert "26 requests, 26 of them not answered yet" in told, "scores of any items"
    assert "which are not known yet" in told
    assert "sent to: 127.0.0.1" in told

    make(files, tmp_path / "run", **asks(server, tmp_path))
    calls = len(server.calls)
    capsys.readouterr()
    run(augment_labels, **plan, dry_run=True, num_orders=4)
    told = capsys.readouterr().out
    assert len(server.calls) == calls
    assert "50 requests, 0 of them not answered yet" in told
    assert "52 requests, 26 of them not answered yet" in told, "the items are known, half of the orders are answered"
    assert "which are not known yet" not in told
    asked = next(text for text in server.asked() if "<candidates>\n" in text)
    template = JudgeTemplate.load("movie")
    assert template.messages(dialogues[0].messages, shown(asked), {0: ""})[0]["content"] in told


def test_a_dry_run_where_the_encoder_scores(
    files: Files, server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = {**files.training, **SETTINGS, "output_dir": tmp_path / "run", "scorer": "encoder", "dry_run": True}
    run(augment_labels, **plan)
    assert "nothing to plan" in capsys.readouterr().out
    run(augment_labels, **plan, **asks(server, tmp_path))
    told = capsys.readouterr().out
    assert "50 requests, 50 of them not answered yet" in told
    assert "encoder scores: the teacher is asked nothing else." in told
    assert "candidates" not in told
    assert server.calls == []


def test_nothing_to_plan_without_a_paid_teacher(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(augment_labels, **files.training, **SETTINGS, **SIMULATED, output_dir=tmp_path / "run", dry_run=True)
    assert "nothing to plan" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_a_budget_stops_and_the_same_command_goes_on(files: Files, server: ChatServer, tmp_path: Path) -> None:
    settings = asks(server, tmp_path, teacher_concurrency=1)
    with pytest.raises(SystemExit, match="budget of 60 .calls") as stopped:
        make(files, tmp_path / "run", **settings, teacher_max_calls=60)
    assert "The same command goes on from here." in str(stopped.value)
    assert kinds(server) == {"lists": 0, "descriptions": 50, "ratings": 10}
    assert not (tmp_path / "run").exists()
    make(files, tmp_path / "run", **settings)
    assert kinds(server) == {"lists": 0, "descriptions": 50, "ratings": 26}
    assert len(set(server.asked())) == 76, "nothing is asked twice"


def test_an_interrupted_run_goes_on(
    files: Files,
    server: ChatServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def press(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(augment_labels, "kept_labels", press)
        with pytest.raises(SystemExit) as stopped:
            make(files, tmp_path / "run", **asks(server, tmp_path))
    assert stopped.value.code == 130
    assert "the same command goes on from there" in capsys.readouterr().out
    assert len(server.calls) == 76
    assert len(make(files, tmp_path / "run", **asks(server, tmp_path))) == 13
    assert len(server.calls) == 76


def test_a_judge_that_rates_nothing_leaves_no_label(files: Files, catalog: Catalog, tmp_path: Path) -> None:
    with serving(Teacher(catalog, judge=lambda prompt: "They are all great. 4")) as server:
        augmented = make(files, tmp_path / "run", **asks(server, tmp_path))
    assert all(dialogue.augmented == [] for dialogue in augmented)
    card = (tmp_path / "run" / "card.md").read_text(encoding="utf-8")
    assert "- never rated: 100.0%" in card
    assert "- dialogues without a label: 13" in card
    html = (tmp_path / "run" / "card.html").read_text(encoding="utf-8")
    assert ": not rated</li>" in html
    assert ": nan" not in card + html


def test_a_key_goes_to_the_server_and_nowhere_else(
    files: Files, server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    make(files, tmp_path / "run", **asks(server, tmp_path, teacher_api_key_env=KEY_VARIABLE))
    assert all(headers["authorization"] == f"Bearer {KEY}" for headers in server.headers)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in written
    assert KEY_VARIABLE.encode() in (tmp_path / "run" / "manifest.json").read_bytes()


def test_a_server_that_stops_answering(files: Files, catalog: Catalog, tmp_path: Path) -> None:
    usual = Teacher(catalog, judge=rate_by_length)

    def broken(body: dict, attempt: int) -> Reply:
        return Reply("gone", 500) if "<candidates>\n" in body["messages"][-1]["content"] else usual(body, attempt)

    with serving(broken) as server:
        with pytest.raises(SystemExit, match=r"(?s)The same command goes on from here\."):
            make(files, tmp_path / "run", **asks(server, tmp_path))
        assert not (tmp_path / "run").exists()
        server.behave = usual
        make(files, tmp_path / "run", **asks(server, tmp_path))
        assert kinds(server)["descriptions"] == 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scorer": "nobody"}, "scorer is 'nobody'; expected teacher, encoder, or the directory"),
        ({"min_label_score": 0}, "min_label_score is 0.*; expected a score above 0, at most 4"),
        ({"min_label_score": 4.5}, "min_label_score is 4.5; expected a score above 0, at most 4"),
        ({"trust": 1.5}, r"trust is 1.5; expected 0 \(labels count nothing\) to 1"),
        ({"prior": -1}, "prior is -1.*; expected 0"),
        ({"corrupt": 2}, "corrupt is 2.*; expected a share of the labels"),
        ({"num_candidates": 0}, "num_candidates is 0; expected at least 1"),
        ({"num_orders": 0}, "num_orders is 0; expected at least 1"),
        ({"window": 0}, "window is 0; expected at least 1"),
        ({"judge_template": "nowhere.jinja"}, "nowhere.jinja"),
        ({"metadata_template": "nowhere.jinja"}, "nowhere.jinja"),
        ({"text_fields": "stars"}, r"has the fields \['stars'\]; it has \['genres'\]"),
        ({"retriever": "nowhere"}, "package.module:name"),
        ({"encoder": "./no-such-model"}, "encoder is './no-such-model', which cannot be used"),
    ],
)
def test_wrong_settings_are_found_before_a_call_is_paid_for(
    settings: dict[str, Any], message: str, files: Files, server: ChatServer, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        make(files, tmp_path / "run", **asks(server, tmp_path), **settings)
    assert server.calls == []
    assert not (tmp_path / "run").exists()
