"""Answers that somebody recorded: how lists of black-box models come in without a call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankrl.jsonl import read_rows
from rankrl.teachers.cache import request_key
from rankrl.teachers.protocol import Answer, Messages, TeacherError


class MissingRecording(TeacherError, LookupError):
    """Something was asked that nobody recorded."""


class RecordedTeacher:
    """Answers requests from a JSONL file (`.gz` too).

    Args:
        path: rows `{"messages": [{"role", "content"}, ...], "answer": text}`; `answer` may be null or `""` for an empty
            answer, and `"status": "refused"` marks a refusal, which needs no `answer`.
        name: the model's name; by default that in the rows (`model`), else the name of the file.

    Raises:
        ValueError: if a row is malformed or the same messages occur with another answer, with its line.

    Example:
        >>> RecordedTeacher("answers.jsonl").ask([[{"role": "user", "content": "A heist film?"}]])[0].text
    """

    def __init__(self, path: str | Path, *, name: str | None = None) -> None:
        self.path = Path(path)
        self._answers: dict[str, tuple[Answer, int]] = {}
        models = set()
        for number, row in read_rows(self.path):
            if "answer" not in row and row.get("status") != "refused":
                raise ValueError(
                    f"{self.path}:{number}: no column 'answer'; this row has {sorted(row)}. Write the text there, null "
                    "for an empty answer; only a refusal ('status': 'refused') may go without."
                )
            if not _is_messages(row.get("messages")) or not isinstance(row.get("answer"), str | None):
                raise ValueError(
                    f"{self.path}:{number}: expected {{'messages': [{{'role', 'content'}}], 'answer': text or null}}"
                )
            answer = Answer.of(row.get("answer"), refused=row.get("status") == "refused")
            known, line = self._answers.setdefault(request_key({"messages": row["messages"]}), (answer, number))
            if known != answer:
                raise ValueError(
                    f"{self.path}:{number}: another answer to the messages of line {line}; keep one of them"
                )
            models.add(row.get("model"))
        (model,) = models if len(models) == 1 else (None,)
        self.name = name or model or self.path.name

    def ask(self, requests: Sequence[Messages]) -> list[Answer]:
        """The recorded answers, all marked `cached`.

        Raises:
            MissingRecording: for the first request that nobody recorded.
        """
        return [self._answer(messages) for messages in requests]

    def _answer(self, messages: Messages) -> Answer:
        key = request_key({"messages": messages})
        if key not in self._answers:
            raise MissingRecording(
                f"{self.path} holds no answer to {json.dumps(messages, ensure_ascii=False)[:500]}; it holds "
                f"{len(self._answers):,} others. Messages "
                "have to be equal to the letter: was another template, or more dialogues, used?"
            )
        answer, _ = self._answers[key]
        return Answer(answer.text, answer.status, cached=True)


def load_recorded_texts(path: str | Path, *, where: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Recorded answers by the id of their dialogue, for recordings that do not hold the request itself.

    Args:
        path: JSONL rows (`.gz` too) with an `id`, and the answer in `raw`.
        where: keep only rows with these values, such as `{"prompt": "general"}`.

    Returns:
        `{id: answer}`, in the order of the file.

    Raises:
        ValueError: if a row lacks a column, an id occurs twice, or no row is left, with what to change.

    Example:
        >>> load_recorded_texts("inspired_gpt-4.jsonl", where={"prompt": "general"})["inspired:test_1:10"]
    """
    wanted = dict(where or {})
    texts: dict[str, str] = {}
    rows: dict[str, tuple[int, Mapping[str, Any]]] = {}
    for number, row in read_rows(path):
        if missing := [column for column in ("id", "raw", *wanted) if column not in row]:
            raise ValueError(f"{path}:{number}: no column {missing[0]!r}; this row has {sorted(row)}")
        if any(row[column] != value for column, value in wanted.items()):
            continue
        if not isinstance(row["raw"], str):
            raise ValueError(f"{path}:{number}: 'raw' is {row['raw']!r}; expected the text of an answer")
        if row["id"] in rows:
            first, other = rows[row["id"]]
            apart = [column for column in row if column != "raw" and row[column] != other.get(column)]
            advice = f"choose with where={{{apart[0]!r}: ...}}" if apart else "keep one of them"
            raise ValueError(f"{path}:{number}: id {row['id']!r} was on line {first} already; {advice}")
        rows[row["id"]] = number, row
        texts[row["id"]] = row["raw"]
    if not texts:
        raise ValueError(f"{path} has no row with {wanted}" if wanted else f"{path} holds no rows")
    return texts


def _is_messages(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in value
    )
