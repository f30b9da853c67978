"""Scores of candidates on disk: one JSON row per dialogue, items named as everywhere (by key, title and year).

    {"id": "redial:7:3", "source": "gpt-4o", "items": [
        {"id": "tt0113277", "title": "Heat", "year": 1995, "score": 3.5, "similarity": 0.41, "reason": "a heist"}]}

`score` is from 0 to 4, or null for an item that nobody rated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

from catalog import ItemReference
from catalog.files import whole_file
from rankrl.jsonl import read_rows
from rankrl.teachers.rating import LABEL_SCALE

LOWEST, HIGHEST = float(min(LABEL_SCALE)), float(max(LABEL_SCALE))


@dataclass(frozen=True)
class ScoredItem:
    """A candidate and what it was found to be worth to a dialogue.

    Args:
        item: which one.
        score: how well it fits, 0 to 4; None if nobody rated it.
        similarity: to the dialogue, by which it became a candidate.
        reason: what the scorer said.

    Raises:
        ValueError: for a score or similarity that is no finite number, or a score outside 0 to 4.
    """

    item: ItemReference
    score: float | None
    similarity: float | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("score", self.score), ("similarity", self.similarity)):
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if value is not None and not number:
                raise ValueError(f"{name} is {value!r}; expected a number, or null")
        if self.score is not None and not LOWEST <= self.score <= HIGHEST:
            raise ValueError(f"score is {self.score!r}; expected {LOWEST:g} to {HIGHEST:g}, or null if nobody rated it")
        if self.reason is not None and not isinstance(self.reason, str):
            raise ValueError(f"reason is {self.reason!r}; expected a text, or null")


@dataclass(frozen=True)
class ScoredDialogue:
    """The candidates of one dialogue.

    Args:
        id: that of the dialogue.
        source: who scored them.
        items: in any order.
    """

    id: str
    source: str
    items: tuple[ScoredItem, ...]


def save_scores(path: str | PathLike[str], rows: Iterable[ScoredDialogue]) -> None:
    """Write scores; the file appears when it is complete."""
    with whole_file(path) as file:
        for row in rows:
            record = {"id": row.id, "source": row.source, "items": [_to_json(scored) for scored in row.items]}
            file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())


def load_scores(path: str | PathLike[str]) -> dict[str, ScoredDialogue]:
    """Read scores.

    Returns:
        `{dialogue id: its candidates}`, in the order of the file.

    Raises:
        ValueError: for a row that cannot be read or a dialogue that occurs twice, with file and line, or an empty file.

    Example:
        >>> load_scores("runs/labels/scores.jsonl")["redial:7:3"].items[0].score
        3.5
    """
    rows: dict[str, ScoredDialogue] = {}
    lines: dict[str, int] = {}
    for number, found in read_rows(path):
        try:
            row = _read_row(found)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from error
        if row.id in rows:
            raise ValueError(
                f"{path}:{number}: dialogue {row.id!r} was on line {lines[row.id]} already; keep one of them"
            )
        rows[row.id], lines[row.id] = row, number
    if not rows:
        raise ValueError(f"{path} holds no scores")
    return rows


def _read_row(row: Mapping[str, Any]) -> ScoredDialogue:
    shape = {"id": str, "source": str, "items": list}
    if not all(isinstance(row.get(name), kind) for name, kind in shape.items()):
        raise ValueError(f"got {row!r:.100}; expected an object with `id`, `source` (texts) and `items` (a list)")
    return ScoredDialogue(row["id"], row["source"], tuple(_read_item(item, n) for n, item in enumerate(row["items"])))


def _read_item(value: Any, number: int) -> ScoredItem:
    if not isinstance(value, dict) or "score" not in value:
        raise ValueError(f"items[{number}] is {value!r:.100}; expected an object with an item and its `score`")
    try:
        item = ItemReference(value.get("id"), value.get("title"), value.get("year"))
        return ScoredItem(item, value["score"], value.get("similarity"), value.get("reason"))
    except ValueError as error:
        raise ValueError(f"items[{number}]: {error}") from error


def _to_json(scored: ScoredItem) -> dict[str, Any]:
    item = {"id": scored.item.key, "title": scored.item.title, "year": scored.item.year}
    optional = {"similarity": scored.similarity, "reason": scored.reason}
    return item | {"score": scored.score} | {name: value for name, value in optional.items() if value is not None}
