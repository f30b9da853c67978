"""Demonstrations as rows of a file: what `sft.py`, TRL and `datasets` read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike

from catalog import Catalog, ItemReference
from catalog.files import whole_file
from rankrl.data import Dialogue, PromptTemplate
from rankrl.demonstrations.build import Demonstrations
from rankrl.demonstrations.replies import RawLists

NamedLists = Mapping[str, Sequence[Sequence[ItemReference]]]
"""Step -> the list of each dialogue, as references."""


def named_lists(demonstrations: Demonstrations, raw: RawLists, catalog: Catalog, num_ranks: int) -> NamedLists:
    """The list of every step as references; the raw one also names what is outside the catalogue, as it was written."""
    items = [ItemReference(item.key, item.title, item.year) for item in catalog]
    titles = [
        items[item] if item >= 0 else ItemReference(title=title)
        for title, item in zip(raw.titles, raw.same_item.tolist(), strict=True)
    ]
    named = {"raw": [[titles[title] for title in row[:num_ranks] if title >= 0] for row in raw.ranks.tolist()]}
    for step, ranked in demonstrations.lists.items():
        if step != "raw":
            named[step] = [[items[item] for item in row] for row in ranked.tolist()]
    return named


def write_rows(
    path: str | PathLike[str],
    lists: NamedLists,
    dialogues: Sequence[Dialogue],
    catalog: Catalog,
    template: PromptTemplate,
    num_ranks: int,
) -> None:
    """Write one row per dialogue: the dialogue, what a chat model is to answer, and the list after every step.

    `recommendations` is what `sft.py` imitates; `prompt` and `completion` are the same for any other trainer.

    Args:
        path: a JSONL file; it appears when it is complete.
        lists: from `named_lists`; the last step is what is demonstrated.
        dialogues: D dialogues.
        catalog: how its items are written.
        template: how a dialogue is put to the model.
        num_ranks: K, of which the prompt speaks.
    """
    with whole_file(path) as file:
        for row, dialogue in enumerate(dialogues):
            steps = {step: list(rows[row]) for step, rows in lists.items()}
            *_, final = steps.values()
            system, user = template.render(dialogue.messages, num_ranks)
            turns = [("system", system), ("user", user)] if system else [("user", user)]
            lines = (catalog.lines[catalog.index(item.key)] if item.key else str(item.title) for item in final)
            record = {
                **replace(dialogue, recommendations=final).to_row(),
                "prompt": [{"role": role, "content": content} for role, content in turns],
                "completion": [{"role": "assistant", "content": "\n".join(lines)}],
                "lists": {step: [item.to_struct() for item in items] for step, items in steps.items()},
            }
            file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
