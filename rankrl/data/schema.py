"""What a dialogue is, and how one row of a file becomes one.

In memory an item is an `ItemReference`; on disk it is one struct `{"id", "title", "year", "gain"}`, in JSONL, Parquet
and Arrow alike, because Arrow can hold neither `["Heat", 1995]` (two types in one list) nor `{"Heat": 0.5}` (a column
per title). Rows written by hand may also use `["Heat", 1995]` or `"Heat (1995)"`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catalog import ItemReference

ROLES = ("user", "assistant")
FIELDS = ("id", "domain", "messages", "seen", "ground_truth", "augmented", "recommendations")
OPTIONAL_ITEMS = ("augmented", "recommendations")
REQUIRED = ("messages", "ground_truth")
SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the input: where it stands, what was given, what was expected."""

    where: str
    field: str
    value: Any
    expected: str

    def __str__(self) -> str:
        given = repr(self.value)
        return f"{self.where}: {self.field}: got {given[:120]}{'...' if len(given) > 120 else ''}; {self.expected}"


class DialogueError(ValueError):
    """Dialogues that cannot be used. `problems` holds every bad row; the message shows the first 20.

    Example:
        >>> raise DialogueError([Problem("test.jsonl:3", "ground_truth", [], "expected at least one item")])
        Traceback (most recent call last):
        rankrl.data.schema.DialogueError: 1 problem in the dialogues:
          test.jsonl:3: ground_truth: got []; expected at least one item
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        count = len(self.problems)
        lines = [f"{count} problem{'s' * (count != 1)} in the dialogues:"]
        lines += [f"  {problem}" for problem in self.problems[:SHOWN_PROBLEMS]]
        if count > SHOWN_PROBLEMS:
            lines.append(f"  ... and {count - SHOWN_PROBLEMS} more, all in this error's `problems`")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[DialogueError], tuple[list[Problem]]]:
        return type(self), (self.problems,)  # else another process would read the message as the problems


@dataclass(frozen=True)
class Dialogue:
    """A conversation up to the turn in which the recommender should name items.

    Args:
        id: `<set>:<dialogue>:<turn>`; everything before the last colon names the dialogue. Split by dialogue, not
            by row.
        messages: what was said so far, oldest first: `{"role": "user" | "assistant", "content": text}`. Not empty; any
            order of roles, either may open.
        seen: items mentioned in the whole dialogue so far, also in turns that a short prompt drops.
        ground_truth: what the user really wanted. Empty only where nothing is to be learned or measured (serving).
        recommendations: a list to imitate in supervised fine-tuning, best first, if there is one.
        domain: the kind of item, such as `"movie"` or `"book"`.
        augmented: what would suit the user though no one named it, with gains below 1 as a rule, if that was looked for
            (`rankrl.labels`). Never part of what is measured.

    Items may be given in any form that `ItemReference.parse` takes.

    Raises:
        DialogueError: with everything that is wrong with the fields.

    Example:
        >>> dialogue = Dialogue("demo:1:0", [{"role": "user", "content": "A heist film?"}], [], [("Heat", 1995)])
        >>> dialogue.ground_truth[0].title
        'Heat'
    """

    id: str
    messages: list[dict[str, str]]
    seen: list[ItemReference]
    ground_truth: list[ItemReference]
    recommendations: list[ItemReference] | None = None
    domain: str | None = None
    augmented: list[ItemReference] | None = None

    def __post_init__(self) -> None:
        problems: list[Problem] = []
        where = f"dialogue {self.id!r}"
        if not isinstance(self.id, str) or not self.id:
            problems.append(Problem(where, "id", self.id, "expected a non-empty text"))
        if self.domain is not None and not isinstance(self.domain, str):
            problems.append(Problem(where, "domain", self.domain, 'expected a text such as "movie", or null'))
        messages = _messages(self.messages, where, problems)
        items = {
            field: _items(getattr(self, field), where, field, problems)
            for field in ("seen", "ground_truth", *OPTIONAL_ITEMS)
            if getattr(self, field) is not None or field not in OPTIONAL_ITEMS
        }
        if problems:
            raise DialogueError(problems)
        for field, value in {"messages": messages, **items}.items():
            object.__setattr__(self, field, value)

    def to_row(self) -> dict[str, Any]:
        """This dialogue as one row of a file, every item as a struct `{"id", "title", "year", "gain"}`."""
        optional = {field: getattr(self, field) for field in OPTIONAL_ITEMS}
        return {
            "id": self.id,
            "domain": self.domain,
            "messages": [dict(message) for message in self.messages],
            "seen": [item.to_struct() for item in self.seen],
            "ground_truth": [item.to_struct() for item in self.ground_truth],
            **{
                field: None if items is None else [item.to_struct() for item in items]
                for field, items in optional.items()
            },
        }


def dialogues_hash(dialogues: Iterable[Dialogue]) -> str:
    """16 hex digits that tell one selection of dialogues from another: ids, messages, truth and what was seen."""
    rows = [
        [row.id, row.messages, [[item.to_struct() for item in items] for items in (row.ground_truth, row.seen)]]
        for row in dialogues
    ]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


def dialogue_from_row(row: Mapping[str, Any], where: str, *, allow_empty_truth: bool = False) -> Dialogue:
    """Read one row of a file.

    Args:
        row: the fields of `Dialogue` under their own names; others are ignored. `messages` may also be one text: the
            single message of a user. `seen` may be missing.
        where: the place to name in errors, such as `"test.jsonl:12"`.
        allow_empty_truth: accept rows with nothing to learn from or measure against (serving).

    Raises:
        DialogueError: with every problem of the row.
    """
    missing = [field for field in ("id", *REQUIRED) if row.get(field) is None]
    if allow_empty_truth:
        missing = [field for field in missing if field != "ground_truth"]
    if missing:
        raise DialogueError([Problem(where, field, None, "expected a value") for field in missing])
    messages = row["messages"]
    truth = row.get("ground_truth")
    try:
        dialogue = Dialogue(
            id=str(row["id"]) if isinstance(row["id"], int) else row["id"],
            messages=[{"role": "user", "content": messages}] if isinstance(messages, str) else messages,
            seen=_or_empty(row.get("seen")),
            ground_truth=_or_empty(truth),
            recommendations=row.get("recommendations"),
            augmented=row.get("augmented"),
            domain=row.get("domain"),
        )
    except DialogueError as error:
        raise DialogueError([Problem(where, p.field, p.value, p.expected) for p in error.problems]) from None
    if not dialogue.ground_truth and not allow_empty_truth:
        advice = "expected at least one item; drop the row, or pass allow_empty_truth=True to recommend without a truth"
        raise DialogueError([Problem(where, "ground_truth", truth, advice)])
    return dialogue


def _or_empty(value: Any) -> Any:
    return [] if value is None else value


def _messages(value: Any, where: str, problems: list[Problem]) -> list[dict[str, str]]:
    turns = [] if not isinstance(value, Iterable) or isinstance(value, (str, Mapping)) else list(value)
    if not turns:
        expected = 'expected a non-empty list of {"role": "user" | "assistant", "content": text}'
        problems.append(Problem(where, "messages", value, expected))
        return []
    messages = []
    for index, message in enumerate(turns):
        place = f"messages[{index}]"
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            problems.append(Problem(where, place, message, 'expected {"role": ..., "content": text}'))
        elif message.get("role") not in ROLES:
            expected = 'expected "user" or "assistant"; instructions belong in the prompt template'
            problems.append(Problem(where, f"{place}.role", message.get("role"), expected))
        else:
            messages.append({"role": message["role"], "content": message["content"]})
    return messages


def _items(value: Any, where: str, field: str, problems: list[Problem]) -> list[ItemReference]:
    if not isinstance(value, Iterable) or isinstance(value, (str, Mapping)):
        problems.append(Problem(where, field, value, 'expected a list of items, such as [["Heat", 1995]]'))
        return []
    items = []
    for index, item in enumerate(value):
        try:
            items.append(ItemReference.parse(item))
        except ValueError as error:
            problems.append(Problem(where, f"{field}[{index}]", item, str(error)))
    return items
