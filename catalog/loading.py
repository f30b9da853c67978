"""Catalogue files: rows with the place they stand at, and items from rows. All bad rows are reported at once."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from catalog.files import whole_file
from catalog.items import CatalogError, Item
from catalog.titles import read_year

Row = tuple[str, dict[str, Any]]  # where it stands ("films.csv:7"), its fields

_OUR_FIELDS = ("title", "year", "id", "aliases", "alias_ids")
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".p", ".joblib", ".pt")
_PICKLE_HELP = (
    "is a pickle, and loading a pickle runs whatever code is in it, so this library never does. If you trust the file, "
    "convert it once, in a Python that has the libraries it was written with:\n"
    "  import json, pickle\n"
    "  rows = pickle.load(open({name!r}, 'rb'))  # suppose that this gives (title, year) pairs\n"
    "  with open('catalog.jsonl', 'w') as file:\n"
    "      for title, year in rows:\n"
    "          file.write(json.dumps({{'title': title, 'year': year}}) + '\\n')"
)


def read_items(path: str | os.PathLike[str], columns: Mapping[str, str]) -> tuple[list[Item], list[str]]:
    """Reads the items of a catalogue file.

    Args:
        path: `.jsonl`, `.json`, `.csv` (each also `.gz`) or `.parquet`.
        columns: our field -> the file's column, where they differ.

    Returns:
        The items and the place of each (`name:line`).

    Raises:
        CatalogError: naming every bad row.
    """
    path = Path(path)
    if unknown := [name for name in columns if name not in _OUR_FIELDS]:
        raise CatalogError(
            f"columns maps {unknown[0]!r}; expected {', '.join(_OUR_FIELDS)} mapped to columns of {path.name}"
        )
    problems: list[str] = []
    rows = _read_rows(path, problems)
    _check_columns(path, rows, columns)
    items, places = [], []
    for place, fields in rows:
        try:
            renamed = {ours: fields.pop(theirs) for ours, theirs in columns.items() if theirs in fields}
            # A column of the file's own with the name of a mapped field means something else.
            rest = {name: value for name, value in fields.items() if name not in columns}
            items.append(_to_item(rest | renamed))
            places.append(place)
        except _BadFields as error:
            problems.extend(f"{place}: {problem}" for problem in error.problems)
    if problems:
        raise CatalogError(f"{path.name} has bad rows ({len(problems)} problem(s) in all):", problems)
    if not items:
        raise CatalogError(f"{path.name} has no rows; expected at least one item with a title")
    return items, places


def write_items(path: str | os.PathLike[str], items: Sequence[Item]) -> None:
    """Writes items as JSON lines, in one step, so that a reader never meets half a file.

    Args:
        path: `.jsonl` or `.jsonl.gz`.
        items: items with keys.

    Raises:
        CatalogError: another file name, or metadata that JSON cannot hold or that is named like one of our fields.
    """
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise CatalogError(
            f"cannot save a catalogue as {path.name!r}; expected a name that ends in .jsonl or .jsonl.gz"
        )
    content = "".join(_to_json(item) + "\n" for item in items).encode()
    with whole_file(path) as file:
        file.write(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


class _BadFields(ValueError):
    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _read_rows(path: Path, problems: list[str]) -> list[Row]:
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() in _PICKLE_SUFFIXES:
        raise CatalogError(f"{path.name} " + _PICKLE_HELP.format(name=path.name))
    if suffix == ".parquet":
        return _parquet_rows(path)
    readers: dict[str, Callable[[str, str, list[str]], Iterator[Row]]] = {
        ".jsonl": _jsonl_rows,
        ".json": _json_rows,
        ".csv": _csv_rows,
    }
    if suffix not in readers:
        raise CatalogError(
            f"{path.name} is in no known format; expected .jsonl, .json or .csv (each also .gz), or .parquet"
        )
    return list(readers[suffix](_read_text(path), path.name, problems))


def _read_text(path: Path) -> str:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if content[:1] == b"\x80" and content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise CatalogError(f"{path.name} " + _PICKLE_HELP.format(name=path.name))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CatalogError(f"{path.name}:{line}: the file is not UTF-8 ({error.reason}); save it as UTF-8") from error


def _jsonl_rows(text: str, name: str, problems: list[str]) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                problems.append(f"{name}:{number}: no JSON ({error.msg}, column {error.colno}): {line.strip()[:80]!r}")
            else:
                yield from _object_row(f"{name}:{number}", value, problems)


def _json_rows(text: str, name: str, problems: list[str]) -> Iterator[Row]:
    """The objects of a JSON list, each with the line on which it starts."""
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise CatalogError(f"{name}:{error.lineno}: no JSON ({error.msg}, column {error.colno})") from error
    if not isinstance(rows, list):
        raise CatalogError(f"{name}:1: holds {type(rows).__name__}; expected a list of objects with at least a title")
    decoder = json.JSONDecoder()
    position = text.index("[") + 1
    number = 1 + text.count("\n", 0, position)
    for value in rows:
        start = position
        while text[start] in " \t\n\r,":
            start += 1
        number += text.count("\n", position, start)
        yield from _object_row(f"{name}:{number}", value, problems)
        _, position = decoder.raw_decode(text, start)
        number += text.count("\n", start, position)


def _csv_rows(text: str, name: str, problems: list[str]) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    header: list[str] | None = None
    line = 1
    try:
        for values in reader:
            place, line = f"{name}:{line}", reader.line_num + 1
            if not values:
                continue
            if header is None:
                header = [name.strip() for name in values]
                if repeated := sorted({column for column in header if header.count(column) > 1}):
                    problems.append(f"{place}: the header names {repeated[0]!r} more than once; rename one")
            elif len(values) != len(header):
                problems.append(f"{place}: {len(values)} fields, expected {len(header)} as in the header; quote commas")
            else:
                yield place, {name: value for name, value in zip(header, values, strict=True) if value != ""}
    except csv.Error as error:
        problems.append(f"{name}:{line}: no CSV ({error})")


def _parquet_rows(path: Path) -> list[Row]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise CatalogError(
            f"reading {path.name} needs pyarrow, which is not installed: pip install 'rankrl[train]', or use JSONL"
        ) from error
    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise CatalogError(f"{path.name} is no readable Parquet file: {error}") from error
    return [(f"{path.name}:row {number}", fields) for number, fields in enumerate(rows, start=1)]


def _object_row(place: str, value: Any, problems: list[str]) -> Iterator[Row]:
    if isinstance(value, dict):
        yield place, value
    else:
        problems.append(f'{place}: {value!r:.80} is no object; expected a row such as {{"title": "Heat"}}')


def _check_columns(path: Path, rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    """Names a column that no row has, once, instead of once per row."""
    present = dict.fromkeys(name for _, fields in rows for name in fields)
    wanted = {"title": "title"} | dict(columns)
    for ours, theirs in wanted.items():
        if rows and theirs not in present:
            raise CatalogError(
                f"{path.name} has no column {theirs!r} for the {ours}; it has {', '.join(map(repr, present))}. "
                f'Name the right one: Catalog.load(path, columns={{"{ours}": ...}})'
            )
    for theirs in present:
        ours = theirs.strip().lower()
        if ours in _OUR_FIELDS and ours not in present and ours not in columns and theirs not in columns.values():
            raise CatalogError(
                f"{path.name} has a column {theirs!r} and none called {ours!r}. If that is what it holds, say so: "
                f'Catalog.load(path, columns={{"{ours}": "{theirs}"}}); else give the column another name.'
            )


def _to_item(fields: dict[str, Any]) -> Item:
    problems: list[str] = []

    def read(name: str, reader: Callable[[Any], Any]) -> Any:
        try:
            return reader(fields.pop(name, None))
        except ValueError as error:
            problems.append(f"field {name!r}: {error}")
            return None

    title, year, key = read("title", _read_title), read("year", read_year), read("id", _read_key)
    aliases, alias_ids = read("aliases", _read_texts), read("alias_ids", _read_texts)
    if problems:
        raise _BadFields(problems)
    return Item(title, year, key, aliases, fields | ({"alias_ids": list(alias_ids)} if alias_ids else {}))


def _read_title(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError(f"{value!r}; expected a text that is not blank")


def _read_key(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    raise ValueError(f"{value!r}; expected a text or a whole number, or null where the item has no key")


def _read_texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split("|")
    if isinstance(value, list) and all(isinstance(text, str) and text.strip() for text in value):
        return tuple(value)
    raise ValueError(f"{value!r}; expected a list of texts (in CSV separated by |), none of them blank")


def _to_json(item: Item) -> str:
    row: dict[str, Any] = {"id": item.key, "title": item.title, "year": item.year}
    if item.aliases:
        row |= {"aliases": list(item.aliases)}
    if clash := sorted({*row, "aliases"} & set(item.metadata)):
        raise CatalogError(
            f"the metadata of {item.key!r} has a field {clash[0]!r}, which names a part of the item; rename it"
        )
    try:
        return json.dumps(row | dict(item.metadata), ensure_ascii=False)
    except TypeError as error:
        raise CatalogError(f"the metadata of {item.key!r} cannot be written as JSON: {error}") from error
