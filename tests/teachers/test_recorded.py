"""Recorded answers: by messages, and by the id of a dialogue."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from rankrl.teachers import MissingRecording, RecordedTeacher, load_recorded_texts
from tests.teachers.server import messages


def write(path: Path, rows: list) -> Path:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.jsonl.gz"])
def test_requests_are_answered_from_the_file(tmp_path: Path, name: str) -> None:
    rows = [
        {"messages": messages("a"), "answer": "Heat", "model": "gpt"},
        "",
        {"messages": messages("b"), "answer": None, "model": "gpt"},
        {"messages": messages("c"), "answer": "No.", "status": "refused", "model": "gpt"},
        {"messages": messages("a"), "answer": "Heat", "model": "gpt"},
    ]
    teacher = RecordedTeacher(write(tmp_path / name, rows))
    assert teacher.name == "gpt"
    answers = teacher.ask([messages("c"), messages("a"), messages("b"), [{"content": "a", "role": "user"}]])
    assert [(answer.text, answer.status) for answer in answers] == [
        (None, "refused"), ("Heat", "ok"), (None, "empty"), ("Heat", "ok"),
    ]  # fmt: skip
    assert all(answer.cached for answer in answers)


def test_what_nobody_recorded_is_named(tmp_path: Path) -> None:
    teacher = RecordedTeacher(write(tmp_path / "answers.jsonl", [{"messages": messages("a"), "answer": "Heat"}]))
    assert teacher.name == "answers.jsonl"
    with pytest.raises(MissingRecording, match=r"answers\.jsonl holds no answer to .*another question.*1 others"):
        teacher.ask([messages("a"), messages("another question")])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"messages": messages("a"), "answer": ""}, "{"], r"answers\.jsonl:2: .*expected one JSON object"),
        (
            [{"messages": messages("a"), "status": "refused"}, {"messages": messages("b"), "text": "Heat"}],
            r"answers\.jsonl:2: no column 'answer'; this row has \['messages', 'text'\]",
        ),
        (["[1]"], r"answers\.jsonl:1: \[1\]; expected one JSON object"),
        ([{"answer": "Heat"}], r"answers\.jsonl:1: expected {'messages'"),
        ([{"messages": "a", "answer": "Heat"}], r"answers\.jsonl:1: expected"),
        ([{"messages": messages("a"), "answer": 3}], r"answers\.jsonl:1: expected"),
        ([{"messages": messages("a"), "answer": text} for text in "xy"], r"answers\.jsonl:2: another answer.*line 1"),
    ],
)
def test_malformed_recordings_are_refused_with_their_line(tmp_path: Path, rows: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecordedTeacher(write(tmp_path / "answers.jsonl", rows))


def test_texts_by_dialogue(tmp_path: Path) -> None:
    rows = [{"id": f"d{n}", "prompt": prompt, "raw": f"{prompt} {n}"} for n in (2, 1) for prompt in ("general", "p2")]
    path = write(tmp_path / "lists.jsonl", rows)
    texts = load_recorded_texts(path, where={"prompt": "general"})
    assert list(texts.items()) == [("d2", "general 2"), ("d1", "general 1")]
    with pytest.raises(ValueError, match=r"lists\.jsonl:2: id 'd2' was on line 1 already; choose with where={'prompt'"):
        load_recorded_texts(path)
    with pytest.raises(ValueError, match="has no row with {'prompt': 'p9'}"):
        load_recorded_texts(path, where={"prompt": "p9"})
    with pytest.raises(ValueError, match=r"lists\.jsonl:1: no column 'model'; this row has \['id', 'prompt', 'raw'\]"):
        load_recorded_texts(path, where={"model": "gpt-4"})
    with pytest.raises(ValueError, match="holds no rows"):
        load_recorded_texts(write(tmp_path / "empty.jsonl", []))


@pytest.mark.real_data
def test_the_real_lists_of_gpt4(real_data: Path) -> None:
    texts = load_recorded_texts(real_data / "teacher" / "inspired_gpt-4.jsonl", where={"prompt": "general"})
    assert len(texts) == 172
    assert texts["inspired:test_1:10"].startswith("1. Die Hard\n2. The Towering Inferno\n")
