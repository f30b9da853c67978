"""Read and write dialogues: JSONL, Parquet, Hugging Face datasets, and the processed Reddit-v2 files of Rank-GRPO.

All bad rows of a source are reported at once, each with its place, field, value and what was expected.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog import ItemReference, parse_list, title_key
from catalog.files import whole_file
from catalog.parsing import read_line
from rankrl.data.schema import FIELDS, REQUIRED, Dialogue, DialogueError, Problem, dialogue_from_row
from rankrl.jsonl import BadLine, read_lines

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

REDDIT_COLUMNS = {"prompt", "groundtruth_with_release_year"}
FILE_TYPES = (".jsonl", ".jsonl.gz", ".parquet")

Row = Mapping[str, Any]


def load_dialogues(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    domain: str | None = None,
    limit: int | None = None,
    allow_empty_truth: bool = False,
) -> list[Dialogue]:
    """Load dialogues.

    Args:
        path: a `.jsonl`, `.jsonl.gz` or `.parquet` file; a directory written by `Dataset.save_to_disk`; or whatever
            `datasets.load_dataset` takes, such as a name on the hub. The columns are the fields of `Dialogue`; those of
            the processed Reddit-v2 files (`prompt`, `groundtruth_with_release_year`, `seen_titles`, `completion`) are
            recognised and read as they are: the prompt becomes the one user message.
        columns: which column holds a field, `{field: column}`, for example `{"messages": "conversation"}`. Without a
            column for `id`, rows are numbered.
        split: which split of a Hugging Face dataset, if it has several.
        domain: keep only dialogues of this domain.
        limit: keep only the first so many.
        allow_empty_truth: accept rows with no ground truth (serving). Otherwise they are errors.

    Returns:
        The dialogues, in the order of the source.

    Raises:
        DialogueError: with every bad row: missing columns, broken JSON, wrong types, empty ground truth, an id twice.
        FileNotFoundError, ValueError: if the source cannot be opened or the domain does not occur.

    Example:
        >>> books = load_dialogues("opendialkg/train.jsonl", domain="book")
        >>> mine = load_dialogues("me/chats", split="train", columns={"messages": "chat", "ground_truth": "liked"})
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected the number of dialogues to read, 1 or more.")
    name = Path(path).name.split(".")[0]
    unread: list[Problem] = []
    rows = list(islice(_read(path, split, unread), None if domain else limit))
    present = sorted({column for _, row in rows for column in row})
    required = [field for field in REQUIRED if not (allow_empty_truth and field == "ground_truth")]
    if not columns and set(present) >= REDDIT_COLUMNS:
        rows = [(where, _from_reddit(row, name, index)) for index, (where, row) in enumerate(rows)]
    else:
        rows = _rename(rows, present, columns or {}, required, path)
    # Before any row is left out: what was recorded of all rows finds them in a part of them.
    rows = [(where, _with_id(row, f"{name}:{number}:0")) for number, (where, row) in enumerate(rows)]
    if domain is not None:
        rows = list(islice(_of_domain(rows, domain), limit))
    return _parse(rows, name, allow_empty_truth, unread)


def save_dialogues(path: str | Path, dialogues: Iterable[Dialogue]) -> None:
    """Write dialogues to `.jsonl`, `.jsonl.gz` or `.parquet`; `load_dialogues` reads back the same dialogues.

    In one step: a reader never meets half a file.

    Raises:
        ValueError: for another file type.
    """
    path = Path(path)
    if not path.name.endswith(FILE_TYPES):
        raise ValueError(f"cannot write {path.name}: dialogues are written as {', '.join(FILE_TYPES)}")
    lines = (f"{json.dumps(dialogue.to_row(), ensure_ascii=False)}\n".encode() for dialogue in dialogues)
    with whole_file(path) as file:
        if path.suffix == ".parquet":
            to_dataset(dialogues).to_parquet(file)
        elif path.suffix == ".gz":
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                packed.writelines(lines)
        else:
            file.writelines(lines)


def to_dataset(dialogues: Iterable[Dialogue]) -> Dataset:
    """Dialogues as a `datasets.Dataset`, every item a struct `{"id", "title", "year", "gain"}`."""
    from datasets import Dataset, Features, List, Value

    text = Value("string")
    items = List({"id": text, "title": text, "year": Value("int64"), "gain": Value("float64")})
    features = Features(
        {
            "id": text,
            "domain": text,
            "messages": List({"role": text, "content": text}),
            "seen": items,
            "ground_truth": items,
            "augmented": items,
            "recommendations": items,
        }
    )
    rows = [dialogue.to_row() for dialogue in dialogues]
    return Dataset.from_dict({name: [row[name] for row in rows] for name in features}, features=features)


@dataclass(frozen=True)
class SeenCounts:
    """What `only_new_items` took away."""

    items: int
    dialogues: int


def only_new_items(dialogues: Iterable[Dialogue], *, keep_empty: bool = False) -> tuple[list[Dialogue], SeenCounts]:
    """Drop what was already mentioned from each ground truth, and dialogues that are left with nothing.

    An item was mentioned if something in `seen` has its key or, where one of the two has no key, its title (compared as
    the catalogue does) with the same year or, on one side, none.

    Args:
        dialogues: any number of them.
        keep_empty: keep dialogues that are left, or came, with nothing.

    Returns:
        The dialogues that remain, and how many items and dialogues went.
    """
    kept, items, dropped = [], 0, 0
    for dialogue in dialogues:
        new = [item for item in dialogue.ground_truth if not any(_same(item, seen) for seen in dialogue.seen)]
        items += len(dialogue.ground_truth) - len(new)
        dropped += not (new or keep_empty)
        if new or keep_empty:
            kept.append(dialogue if len(new) == len(dialogue.ground_truth) else replace(dialogue, ground_truth=new))
    return kept, SeenCounts(items, dropped)


def _same(one: ItemReference, other: ItemReference) -> bool:
    if one.key is not None and other.key is not None:
        return one.key == other.key
    if one.title is None or other.title is None:
        return False
    return any(
        title_key(title) == title_key(name) and (year == named or year is None or named is None)
        for title, year in _readings(one)
        for name, named in _readings(other)
    )


def _readings(item: ItemReference) -> list[tuple[str, int | None]]:
    """Title and year, however the file wrote them: the title of an item without a year may be a line with one."""
    title = f"{item.title}"
    line = read_line(title)
    as_line = [(line.title, line.year)] if item.year is None and line.year is not None else []
    return [(title, item.year), *as_line]


def _with_id(row: Row, number: str) -> Row:
    return row if row.get("id") is not None else {**row, "id": number}


def _parse(
    rows: Sequence[tuple[str, Row]], name: str, allow_empty_truth: bool, unread: Sequence[Problem]
) -> list[Dialogue]:
    dialogues: list[Dialogue] = []
    problems, places = list(unread), dict[str, str]()
    for where, row in rows:
        try:
            dialogue = dialogue_from_row(row, where, allow_empty_truth=allow_empty_truth)
        except DialogueError as error:
            problems += error.problems
            continue
        if dialogue.id in places:
            expected = f"expected an id of its own: {places[dialogue.id]} has the same"
            problems.append(Problem(where, "id", dialogue.id, expected))
        places.setdefault(dialogue.id, where)
        dialogues.append(dialogue)
    if problems:
        raise DialogueError(problems)
    if rows and not any("seen" in row for _, row in rows):
        logger.warning("%s has no column for 'seen': no item counts as mentioned before", name)
    return dialogues


def _rename(
    rows: list[tuple[str, Row]], present: list[str], columns: Mapping[str, str], required: list[str], path: str | Path
) -> list[tuple[str, Row]]:
    """Rows under the names of our fields, once every column that is asked for is there."""
    if unknown := [field for field in columns if field not in FIELDS]:
        raise ValueError(f"columns maps {unknown}; it goes {{field: column}} and the fields are {', '.join(FIELDS)}")
    source = {field: columns.get(field, field) for field in FIELDS}
    missing = [field for field in FIELDS if source[field] not in present and (field in required or field in columns)]
    if rows and missing:
        advice = f"expected one of the columns {present}; map it with columns={{{missing[0]!r}: 'your column'}}"
        raise DialogueError([Problem(str(path), field, source[field], advice) for field in missing])
    return [(place, {field: row[name] for field, name in source.items() if name in row}) for place, row in rows]


def _of_domain(rows: list[tuple[str, Row]], domain: str) -> Iterator[tuple[str, Row]]:
    present = {row.get("domain") for _, row in rows}
    if rows and domain not in present:
        raise ValueError(f"no dialogue of domain {domain!r}; the domains are {sorted(map(str, present))}")
    return (place_row for place_row in rows if place_row[1].get("domain") == domain)


def _from_reddit(row: Row, name: str, index: int) -> Row:
    """A row of the processed Reddit-v2 files. Answers to one post are rows with the same prompt: one dialogue."""
    prompt = row["prompt"]
    text = prompt if isinstance(prompt, str) else json.dumps(prompt)
    read = {
        "id": f"{name}:{hashlib.sha256(text.encode()).hexdigest()[:12]}:{index}",
        "messages": prompt,
        "ground_truth": row["groundtruth_with_release_year"],
        "domain": "movie",
    }
    if "seen_titles" in row:
        read["seen"] = row["seen_titles"]
    completion = row.get("completion")
    if completion is not None and not isinstance(completion, str):
        completion = "\n".join(message["content"] for message in completion)
    if completion:
        read["recommendations"] = [(line.title, line.year) for line in parse_list(completion) if line.title]
    return read


def _read(path: str | Path, split: str | None, unread: list[Problem]) -> Iterator[tuple[str, Row]]:
    """(place, row) of any source. Lines that are no JSON object go to `unread`."""
    path = Path(path) if Path(path).exists() else path
    if isinstance(path, str) and path.endswith(FILE_TYPES):
        raise FileNotFoundError(f"no file {path}")
    if isinstance(path, Path) and path.is_file():
        if not path.name.endswith(FILE_TYPES):
            raise ValueError(
                f"cannot read {path.name}: dialogues are read from {', '.join(FILE_TYPES)} files or datasets"
            )
        return _read_parquet(path) if path.suffix == ".parquet" else _read_jsonl(path, unread)
    return _read_dataset(path, split)


def _read_jsonl(path: Path, unread: list[Problem]) -> Iterator[tuple[str, Row]]:
    for number, row in read_lines(path):
        where = f"{path.name}:{number}"
        if isinstance(row, BadLine):
            unread.append(Problem(where, row.field, row.given, row.expected))
        else:
            yield where, row


def _read_parquet(path: Path) -> Iterator[tuple[str, Row]]:
    from pyarrow.parquet import ParquetFile

    rows = (row for batch in ParquetFile(path).iter_batches() for row in batch.to_pylist())
    return ((f"{path.name}:row {number}", row) for number, row in enumerate(rows, start=1))


def _read_dataset(path: str | Path, split: str | None) -> Iterator[tuple[str, Row]]:
    from datasets import DatasetDict, load_dataset, load_from_disk

    directory = Path(path)
    saved = any((directory / name).is_file() for name in ("state.json", "dataset_dict.json"))
    dataset = load_from_disk(str(path)) if saved else load_dataset(str(path), split=split)
    if isinstance(dataset, DatasetDict):
        if split is None and len(dataset) == 1:
            split = next(iter(dataset))
        if split not in dataset:
            raise ValueError(f"{path} has the splits {list(dataset)}; choose one with split=..., not {split!r}")
        dataset = dataset[split]
    batches = dataset.with_format("arrow").iter(batch_size=1000)
    rows = (row for batch in batches for row in batch.to_pylist())
    return ((f"{path}:row {number}", row) for number, row in enumerate(rows, start=1))
