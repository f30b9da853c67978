"""The demonstrations recipe run as a user runs it, and a teacher behind a real server that answers its requests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from catalog import Catalog
from recipes import demonstrations
from tests.recipes.runs import NUM_RANKS, SMALL, Files, run
from tests.teachers.server import ChatServer, Reply, completion

PROMPT = SMALL["prompt_template"]
SETTINGS = {"num_ranks": NUM_RANKS, "teacher_ranks": 6, "num_rated": 8, "prompt_template": PROMPT}
SIMULATED = {"teacher": "rankrl.demonstrations.simulated:make"}


def make(files: Files, output: Path, **settings: Any) -> list[dict[str, Any]]:
    """Run the recipe: the rows it wrote."""
    run(demonstrations, **{**files.training, **SETTINGS, "output_dir": output, **settings})
    return [json.loads(line) for line in (output / "demonstrations.jsonl").read_text(encoding="utf-8").splitlines()]


def asks(server: ChatServer, folder: Path, **settings: Any) -> dict[str, Any]:
    """The settings of a teacher behind a server, with a cache in the folder."""
    cache = {"teacher_cache": folder / "answers.sqlite", "teacher_retries": 0, "teacher_timeout": 20}
    return {"teacher_model": "m", "teacher_base_url": server.url, **cache, **settings}


class Teacher:
    """Answers the three requests; what it does otherwise is up to a test.

    Attributes:
        lists, describe, judge: prompt -> text.
    """

    def __init__(self, catalog: Catalog, **changes: Callable[[str], str | None]) -> None:
        self.catalog = catalog
        self.__dict__.update(changes)

    def __call__(self, body: dict, attempt: int) -> Reply:
        prompt = body["messages"][-1]["content"]
        kind = self.judge if "<candidates>\n" in prompt else self.describe if "<item>\n" in prompt else self.lists
        return Reply(completion(kind(prompt)))

    def lists(self, prompt: str) -> str:
        first = len(prompt) % 40
        return "\n".join(["Ghost Barn (1990)", *self.catalog.lines[first : first + 5]])

    def describe(self, prompt: str) -> str:
        return "Keywords: horror, ghosts\nPlot: A barn is haunted."

    def judge(self, prompt: str) -> str:
        return "\n".join(f"{line}####{len(line) % 5 - 2}" for line in shown(prompt))


def shown(prompt: str) -> list[str]:
    """The candidates of a request to the judge."""
    return re.search(r"<candidates>\n(.*?)\n</candidates>", prompt, re.DOTALL)[1].split("\n")  # type: ignore[index]


def rate_by_length(prompt: str) -> str:
    """What a judge of label work may answer: two films of three are exactly right, whatever the order."""
    return "\n".join(f"{line}####{4 if len(line) % 3 else 1} | {len(line)} letters" for line in shown(prompt))


def kinds(server: ChatServer) -> dict[str, int]:
    """How often each of the three things was asked for."""
    asked = server.asked()
    ratings, items = (sum(f"<{tag}>\n" in text for text in asked) for tag in ("candidates", "item"))
    return {"lists": len(asked) - ratings - items, "descriptions": items, "ratings": ratings}


def evidence(title: str) -> str:
    """A retriever."""
    return f"found of {title}"
