"""A run in shards asks, encodes and writes what one process does: no request twice, no byte different."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from catalog import Catalog
from recipes import demonstrations
from tests.recipes.runs import Files, run
from tests.recipes.teaching import SETTINGS, Teacher, asks, make
from tests.teachers.server import serving

RESULTS = ("demonstrations.jsonl", "adjustment.npz", "metrics.json")
PASSES = 4  # lists, descriptions, vectors and the rest: more than that no run of the array is needed


def invents(catalog: Catalog) -> Teacher:
    """Names titles outside the catalogue, in two spellings, and misspelt ones; here and there it has no list."""

    def lists(prompt: str) -> str:
        first = len(prompt) % 40
        if first % 7 == 3:
            return "I would rather not say."
        invented = "Ghost Barn (1990)" if first % 2 else "ghost barn (1990)"
        return "\n".join([invented, catalog.lines[first + 5][1:], *catalog.lines[first : first + 4]])

    return Teacher(catalog, lists=lists)


def in_shards(recipe: Any, number: int, capsys: pytest.CaptureFixture[str], **settings: Any) -> int:
    """Run a job array as often as it takes; returns how often."""
    for passes in range(1, PASSES + 1):
        capsys.readouterr()
        for place in range(1, number + 1):
            run(recipe, **settings, shard=f"{place}/{number}")
        if "waits" not in capsys.readouterr().out:
            return passes
    raise AssertionError("the shards wait for ever")


def same(one: Path, other: Path, names: tuple[str, ...]) -> None:
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("number", [1, 3])
def test_demonstrations(number: int, files: Files, catalog: Catalog, tmp_path: Path, capsys: Any) -> None:
    settings = {**SETTINGS, **files.training, "min_score": 80, "describe": "all"}
    with serving(invents(catalog)) as server, serving(invents(catalog)) as other:
        make(files, tmp_path / "one", **asks(server, tmp_path / "one"), **settings)
        cluster = {**settings, **asks(other, tmp_path / "many"), "output_dir": tmp_path / "many"}
        passes = in_shards(demonstrations, number, capsys, **cluster)
        assert (passes == 1) == (number == 1)
        assert not (tmp_path / "many" / "demonstrations.jsonl").exists()
        assert not (tmp_path / "many" / "answers.sqlite").exists(), "shards open no database that others may open"
        assert Counter(other.asked()) == Counter(server.asked()), "each request once, whoever asks it"
        asked = len(other.calls)
        make(files, tmp_path / "many", **cluster)
        assert len(other.calls) == asked, "the last run pays for nothing"
    same(tmp_path / "one", tmp_path / "many", RESULTS)
    assert not (tmp_path / "many" / "shards").exists()
