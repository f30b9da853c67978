"""JSONL files (`.gz` too), read strictly: a line that is no JSON object is told with its place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class BadLine:
    """A line that is no row.

    Attributes:
        given: what stands there.
        expected: what should, and why this is not it.
        field: `text` if the row has text that no file can hold, else `line`.
    """

    given: Any
    expected: str
    field: str = "line"


def read_rows(path: str | PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and rows; blank lines are passed over.

    Raises:
        ValueError: at the first line that is no JSON object in UTF-8, with file and line.
    """
    for number, row in read_lines(path):
        if isinstance(row, BadLine):
            raise ValueError(f"{path}:{number}: {row.given!r:.100}; {row.expected}")
        yield number, row


def read_lines(path: str | PathLike[str]) -> Iterator[tuple[int, dict[str, Any] | BadLine]]:
    """As `read_rows`, but a line that is no row comes as a `BadLine`, so that all of them can be told at once."""
    path = Path(path)
    # As bytes: in text mode a lone carriage return would end a line, and bad UTF-8 would come without its line number.
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _parse(line.strip())


def _parse(line: bytes) -> dict[str, Any] | BadLine:
    try:
        row = json.loads(line)
    except ValueError as error:
        return BadLine(line.decode(errors="replace"), f"expected one JSON object in UTF-8: {error}")
    if half := _half_an_emoji(line, row):
        return BadLine(half, "expected text that UTF-8 can hold, not half an emoji", field="text")
    return row if isinstance(row, dict) else BadLine(row, "expected one JSON object")


def _half_an_emoji(line: bytes, row: Any) -> str | None:
    """What no file could hold: the escapes of JSON may name half of a pair of surrogates."""
    if rb"\ud" not in line.lower():
        return None
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return error.object[max(error.start - 20, 0) : error.end]
    return None
