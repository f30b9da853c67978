"""The comparison, shrunk to seconds: arms train once and end in tables, figures and pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from catalog import Catalog
from rankrl.data import load_dialogues, save_dialogues
from rankrl.run import once
from rankrl.run.grid import Grid
from recipes import compare, worlds
from tests.recipes.runs import SMALL, Files, run_command

SAMPLED = "sampled lists, at the end"
ARMS = {"ours": {"preset": "rank_grpo"}, "grpo": {"preset": "grpo"}}


@pytest.fixture
def grid(files: Files, sft_model: Path, tmp_path: Path) -> Path:
    """A grid of two arms and two seeds on disk. A test dialogue wants what it has mentioned, and so says nothing."""
    first, *others = load_dialogues(files.test)
    save_dialogues(tmp_path / "test.jsonl", [*others, replace(first, seen=first.ground_truth)])
    start = {"catalog": files.catalog, "dialogues": files.train, "model_name_or_path": sft_model}
    start["test"] = tmp_path / "test.jsonl"
    settings = {**SMALL, "num_generations": 2, "learning_rate": 1e-3, "validate_steps": 1, "save_strategy": "steps"}
    config = tmp_path / "base.yaml"
    config.write_text("logging_steps: 1\n", encoding="utf-8")
    values = {
        "start": {name: str(path) for name, path in {**start, "validation": files.test}.items()},
        "seeds": [0, 1],
        "baseline": "grpo",
        "config": str(config),
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()},
        "arms": ARMS,
    }
    path = tmp_path / "presets.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were made, in their order; they are made in this process."""
    names: list[str] = []

    class Finished:
        returncode = 0

    class MainThread(ThreadPoolExecutor):  # where signals can be handled
        def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
            future: Future = Future()
            try:
                future.set_result(function(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)
            return future

    def run_here(command: Sequence[str], **_: object) -> Finished:
        run_command(command, {})
        names.append(command[command.index("-m") + 1])
        return Finished()

    monkeypatch.setattr(once.subprocess, "run", run_here)
    monkeypatch.setattr(compare, "ThreadPoolExecutor", MainThread)
    return names


def call(grid: Path, output: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["compare", "--grid", str(grid), "--output", str(output), *words])
    compare.main()


def test_an_arm_may_be_trained_by_a_recipe_of_ones_own(
    grid: Path, ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load(grid.read_text(encoding="utf-8"))
    own = {"recipe": "tests.recipes.own_recipe", "preset": "rank_grpo"}
    grid.write_text(yaml.safe_dump({**values, "seeds": [0], "arms": {"own": own}, "baseline": "own"}), encoding="utf-8")
    call(grid, tmp_path / "runs", monkeypatch)
    assert ran == ["recipes.evaluate", "tests.recipes.own_recipe", "recipes.evaluate"]
    assert (tmp_path / "runs" / "seed0" / "own" / "own.txt").is_file()
    figures = json.loads((tmp_path / "runs" / "presets" / "comparison.json").read_text(encoding="utf-8"))
    assert figures["arms"]["own"]["recipe"] == "tests.recipes.own_recipe"
    assert figures["scores"].keys() == {"start", "own"}


def test_from_a_grid_to_a_table(
    grid: Path, ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs"
    call(grid, output, monkeypatch, "--arm", "1/2")  # both seeds of the first arm
    assert ran == [*("recipes.evaluate", "recipes.rank_grpo", "recipes.evaluate")] * 2
    assert not (output / "presets").exists(), "a part of a job array reports nothing"
    call(grid, output, monkeypatch, "--report")
    printed = capsys.readouterr().out
    assert "not finished: grpo, seeds 0, 1\n" in printed
    assert "| against start |" in printed
    assert "| against grpo |" not in printed
    call(grid, output, monkeypatch, "--arm", "2/4")  # the first seed of the second arm
    capsys.readouterr()
    call(grid, output, monkeypatch, "--report")
    printed = capsys.readouterr().out
    assert "not finished: grpo, seed 1\n" in printed
    assert "| ours | 2, 1 paired | " in printed.partition("| against start |")[0]
    figures = json.loads((output / "presets" / "comparison.json").read_text(encoding="utf-8"))
    assert [score is None for score in figures["scores"]["grpo"]["ndcg@3"]["by_seed"]] == [False, True]
    assert [run is None for run in figures["training"]["grpo"]] == [False, True]

    ran.clear()
    call(grid, output, monkeypatch)
    assert ran == ["recipes.rank_grpo", "recipes.evaluate"], "what has finished is not run again"
    printed = capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("|")]
    names = ["start", *ARMS]
    assert rows == [
        "against grpo",
        "---",
        *names,
        "against start",
        "---",
        *names,
        "arm",
        "---",
        *ARMS,
        SAMPLED,
        "---",
        *ARMS,
    ]
    assert "recall at ranks 2-3" in printed

    report = output / "presets"
    assert printed.strip().endswith((report / "comparison.md").read_text(encoding="utf-8").strip())
    figures = json.loads((report / "comparison.json").read_text(encoding="utf-8"))
    assert figures["arms"]["grpo"]["preset"] == "grpo"
    assert len(figures["scores"]["ours"]["ndcg@3"]["by_seed"]) == 2
    first = figures["training"]["ours"][0]
    assert first["lists"] == [0, 4, 8]
    assert len(first["clock"]) == len(first["scores"]) == len(first["returns"]) == 3
    assert len(figures["hits_by_rank"]["start"]) == 3
    by_rank = "return_at_each_rank_of_sampled_lists_at_the_end.png"
    assert {path.name for path in report.glob("*.png")} >= {"final_scores.png", "hit_rate_by_rank.png", by_rank}

    call(grid, output, monkeypatch, "--report", "--baseline", "ours")
    printed = capsys.readouterr().out
    assert "| against ours |" in printed
    assert "| against grpo |" not in printed
    with pytest.raises(ValueError, match="baseline is 'theirs'; expected one of the arms, ours, grpo"):
        call(grid, output, monkeypatch, "--report", "--baseline", "theirs")


def test_the_same_name_with_other_settings_is_refused(
    grid: Path, ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Grid.load(grid)
    seed, arm = loaded.runs()[0]
    root = tmp_path / "runs" / f"seed{seed}"
    (root / "finished").mkdir(parents=True)
    (root / "finished" / arm.name).write_text("-m recipes.rank_grpo --beta 7", encoding="utf-8")
    with pytest.raises(SystemExit, match="was made by other settings"):
        call(grid, tmp_path / "runs", monkeypatch, "--arm", "1/4")


def test_an_arm_that_is_made_anew_writes_its_lists_anew(
    grid: Path, ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs" / "seed0"
    call(grid, tmp_path / "runs", monkeypatch, "--arm", "1/4")
    shutil.rmtree(root / "ours")
    for state in ("started", "finished"):  # as the refusal advises
        (root / state / "ours").unlink()
    ran.clear()
    call(grid, tmp_path / "runs", monkeypatch, "--arm", "1/4")
    assert ran == ["recipes.rank_grpo", "recipes.evaluate"]


def test_what_was_made_by_other_settings_is_not_reported(
    grid: Path, ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(grid, tmp_path / "runs", monkeypatch, "--arm", "1/4")
    grid.write_text(grid.read_text(encoding="utf-8").replace("learning_rate: 0.001", "learning_rate: 0.002"))
    with pytest.raises(RuntimeError, match="ours was made by other settings"):
        call(grid, tmp_path / "runs", monkeypatch, "--report")


def test_the_worlds_of_the_demo_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    record: Callable[..., None] = lambda root, name, command, **_: made.append(name)  # noqa: E731
    monkeypatch.setattr(worlds, "run_once", record)
    start = worlds.demo_world(tmp_path, 3)
    assert made == ["demonstrations", "sft"]
    before = Path(start.test).stat().st_mtime_ns
    worlds.demo_world(tmp_path, 3)
    assert Path(start.test).stat().st_mtime_ns == before
    assert Path(str(start.validation)).is_file()


def test_uneven_titles_change_nothing_but_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "TRAIN", 20)
    monkeypatch.setattr(worlds, "run_once", lambda *_: None)
    worlds.write_world(tmp_path / "data", 0, train=20, test=8)
    (tmp_path / "demonstrations").mkdir()
    shutil.copy(tmp_path / "data" / "train.jsonl", tmp_path / "demonstrations" / "demonstrations.jsonl")
    untouched = (tmp_path / "data" / "catalog.jsonl").read_bytes()
    start = worlds.uneven_world(tmp_path, 0)
    assert (tmp_path / "data" / "catalog.jsonl").read_bytes() == untouched, "other grids start from it"

    catalog, before = Catalog.load(start.catalog), Catalog.load(tmp_path / "data" / "catalog.jsonl")
    longer = [len(new) - len(old) for new, old in zip(catalog.lines, before.lines, strict=True)]
    assert sum(gap > 30 for gap in longer) == len(catalog) // 2
    assert sum(gap == 0 for gap in longer) == len(catalog) - len(catalog) // 2
    for split in ("train", "test"):
        rows, old_rows = (
            load_dialogues(folder / f"{split}.jsonl") for folder in (tmp_path / "uneven" / "data", tmp_path / "data")
        )
        for row, old in zip(rows, old_rows, strict=True):
            assert [catalog.resolve(item) for item in row.seen] == [before.resolve(item) for item in old.seen]
            assert [item.key for item in row.ground_truth] == [item.key for item in old.ground_truth]
            text = " ".join(message["content"] for message in row.messages)
            assert all(catalog.lines[catalog.resolve(item)] in text for item in row.seen), "spoken of by the new name"


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--jobs", "0"], "--jobs is 0; expected 1 or more"), (["--report", "--arm", "1/2"], "--report is of the whole")],
)
def test_flags_that_do_nothing_are_refused(
    words: list[str], message: str, grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        call(grid, tmp_path, monkeypatch, *words)
    assert message in capsys.readouterr().err


def test_a_mistake_in_code_is_shown_where_it_is(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: list[str]
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("nothere")

    monkeypatch.setattr(compare, "prepare", broken)
    with pytest.raises(SystemExit, match=r"(?s)Traceback.*in broken.*KeyError: 'nothere'"):
        call(grid, tmp_path, monkeypatch)
