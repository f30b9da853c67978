"""Scores on disk come back as they were, and what cannot be a score is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import ItemReference
from rankrl.labels import ScoredDialogue, ScoredItem, load_scores, save_scores

HEAT = {"id": "tt0113277", "title": "Heat", "year": 1995, "score": 3.5, "similarity": 0.41, "reason": "a heist"}
ITEMS = st.builds(
    ScoredItem,
    st.builds(ItemReference, st.just("tt1"), st.sampled_from([None, "Amélie", "Up"]), st.sampled_from([None, 2001])),
    st.none() | st.floats(0, 4),
    st.none() | st.floats(-1, 1),
    st.none() | st.text(),
)


@given(st.lists(st.lists(ITEMS, max_size=3), min_size=1, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[list[ScoredItem]]) -> None:
    path = tmp_path_factory.mktemp("scores") / "new" / "scores.jsonl"
    written = [ScoredDialogue(f"d:{n}:0", "teacher", tuple(items)) for n, items in enumerate(rows)]
    save_scores(path, written)
    assert list(load_scores(path).values()) == written
    assert [file.name for file in path.parent.iterdir()] == ["scores.jsonl"]


def test_a_row_as_it_is_documented(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(json.dumps({"id": "a:1:0", "source": "gpt", "items": [HEAT, {"id": "x", "score": None}]}) + "\n\n")
    (row,) = load_scores(path).values()
    assert (row.id, row.source) == ("a:1:0", "gpt")
    assert row.items[0] == ScoredItem(ItemReference("tt0113277", "Heat", 1995), 3.5, 0.41, "a heist")
    assert row.items[1] == ScoredItem(ItemReference("x"), None)


FAULTS = {
    "{": "expected one JSON object",
    "[]": "expected one JSON object",
    json.dumps({"id": 3, "source": "s", "items": []}): "expected an object with",
    json.dumps({"id": "a", "source": "s", "items": [{"id": "x"}]}): r"items\[0\] is .*its `score`",
    json.dumps({"id": "a", "source": "s", "items": [HEAT, {"score": 1}]}): r"items\[1\]: .*needs a key or a title",
    json.dumps({"id": "a", "source": "s", "items": [HEAT | {"score": 4.5}]}): r"score is 4.5; expected 0 to 4",
    json.dumps({"id": "a", "source": "s", "items": [HEAT | {"score": "4"}]}): "score is '4'; expected a number",
    json.dumps({"id": "a", "source": "s", "items": [HEAT | {"score": True}]}): "score is True",
    json.dumps({"id": "a", "source": "s", "items": [HEAT | {"score": float("nan")}]}): "score is nan",
    json.dumps({"id": "a", "source": "s", "items": [HEAT | {"similarity": "near"}]}): "similarity is 'near'",
    json.dumps({"id": "a", "source": "s", "items": [HEAT | {"reason": 7}]}): "reason is 7; expected a text",
    json.dumps({"id": "first", "source": "s", "items": []}): "'first' was on line 1 already",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_faulty_row_is_named_with_its_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(json.dumps({"id": "first", "source": "s", "items": []}) + "\n\n" + text + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"scores.jsonl:3: .*{FAULTS[text]}"):
        load_scores(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="holds no scores"):
        load_scores(tmp_path / "scores.jsonl")
