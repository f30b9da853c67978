"""The answers of one shard in a file that only it writes, a line for each: safe on any file system."""

from __future__ import annotations

import glob
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rankrl.shards import Shard
from rankrl.teachers.protocol import Answer, encodable

_FIELDS = ("text", "status", "prompt_tokens", "completion_tokens", "finish_reason")


def shard_file(cache_path: Path, shard: Shard) -> Path:
    """Where a shard keeps its answers: beside the cache."""
    return Path(f"{cache_path}.shard-{shard.name}.jsonl")


def shard_files(cache_path: Path) -> list[Path]:
    """The files of all shards of a cache, however many shards there were."""
    return sorted(cache_path.parent.glob(f"{glob.escape(cache_path.name)}.shard-*.jsonl"))


def read_answers(path: Path) -> Iterator[tuple[str, str, Answer]]:
    """Key, model and answer of every whole line; the last one of a shard that was killed may be cut short."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            answer = Answer(**{name: row[name] for name in _FIELDS})
            if answer.text is not None:  # the escapes of JSON let half a character in, which a database refuses
                answer = replace(answer, text=encodable(answer.text))
            yield row["key"], row["model"], answer


class AnswerFile:
    """A shard's answers as they arrive.

    Args:
        path: the file; made if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._access = threading.Lock()
        self._file = path.open("a", encoding="utf-8")
        self._file.write("\n")  # ends a line that was cut short

    def add(self, key: str, model: str, answer: Answer) -> None:
        """Keep an answer, on disk when this returns."""
        row = {"key": key, "model": model, **{name: getattr(answer, name) for name in _FIELDS}}
        with self._access:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
