"""The demo, shrunk to seconds: it leaves scores, pictures and a report, goes on where it was, and trains once."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from recipes import demo

SHORT = {
    "demonstrations": ("--num_rated", "12", "--num_orders", "1"),
    "sft": ("--max_steps", "2", "--per_device_train_batch_size", "4", "--logging_steps", "1"),
    "rank_grpo": (
        *("--max_steps", "2", "--per_device_train_batch_size", "4", "--num_generations", "2"),
        *("--logging_steps", "1"),
    ),
}
SIZE = ("--train", "40", "--test", "6")


def run_demo(*arguments: str) -> None:
    """`python -m recipes.demo`, each stage cut short; the stages are processes of their own, as always."""

    def short_stage(name: str, output: Path, dialogues: Path, args: Namespace, *given: str) -> None:
        run_stage(name, output, dialogues, args, *given, *SHORT[name])

    run_stage = demo.run_stage
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "run_stage", short_stage)
        patch.setattr(sys, "argv", ["demo", *arguments])
        demo.main()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "run"
    run_demo("--output", str(folder), *SIZE)
    return folder


def weights_written(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def test_metrics_hold_every_system_on_the_held_out_dialogues(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    for system in ("sft", "rank_grpo", "popularity", "best_possible"):
        assert {"ndcg@5", "ndcg@10", "recall@5", "recall@10", "in_catalog"} <= metrics[system].keys()
    assert metrics["popularity"]["in_catalog"] == metrics["best_possible"]["in_catalog"] == 1.0
    assert metrics["best_possible"]["ndcg@10"] > metrics["sft"]["ndcg@10"]
    for step in demo.STEPS:
        assert {"ndcg@10", "recall@10", "in_catalog", "tail"} <= metrics[step].keys()
    assert metrics["teacher as is"]["in_catalog"] < metrics["remap"]["in_catalog"] == 1.0


def test_demonstrations_are_of_the_training_dialogues_and_scored_on_held_out_ones(finished: Path) -> None:
    made, held_out = (
        [json.loads(line)["id"] for line in (finished / name / "demonstrations.jsonl").read_text("utf-8").splitlines()]
        for name in ("demonstrations", "steps")
    )
    assert (len(made), len(held_out)) == (40, 6)
    assert all(row.startswith("demo-train:") for row in made)
    assert all(row.startswith("demo-test:") for row in held_out)
    cards = {name: (finished / name / "card.md").read_text(encoding="utf-8") for name in ("demonstrations", "steps")}
    assert all("- name: simulated teacher" in card for card in cards.values())
    assert "these very dialogues" in cards["demonstrations"]
    assert "these very dialogues" not in cards["steps"]
    manifest = json.loads((finished / "sft" / "manifest.json").read_text(encoding="utf-8"))
    assert list(manifest["data"]) == [str(finished / "demonstrations" / "demonstrations.jsonl")]


def test_the_report_needs_no_other_file(finished: Path) -> None:
    report = (finished / "report.html").read_text(encoding="utf-8")
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", report) + re.findall(r"url\(([^)]*)\)", report)
    assert [link[:40] for link in links if not link.startswith(("data:", "#"))] == []
    assert "NDCG@10" in report
    assert all(f"</span>{step}</td>" in report for step in demo.STEPS)
    pictures = list(finished.glob("*.png"))
    assert len(pictures) >= 2
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for path in pictures)


def test_a_second_call_trains_nothing_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = weights_written(finished)
    metrics = (finished / "metrics.json").read_text(encoding="utf-8")
    run_demo("--output", str(finished), *SIZE)

    assert weights_written(finished) == before != {}
    assert capsys.readouterr().out.count("has finished before") == 4
    assert (finished / "metrics.json").read_text(encoding="utf-8") == metrics


@pytest.mark.parametrize("other", [("--seed", "1", *SIZE), ("--train", "41", "--test", "6")])
def test_another_demo_in_the_same_folder_is_refused(other: tuple[str, ...], finished: Path) -> None:
    with pytest.raises(SystemExit, match="Name another folder with --output"):
        run_demo("--output", str(finished), *other)


# Stands for a recipe that needs a while to finish its step and save after a Ctrl-C.
SLOW_TO_STOP = """\
#!{python}
import os, pathlib, signal, sys, time
signal.signal(signal.SIGINT, lambda *_: (time.sleep(0.5), pathlib.Path("{saved}").touch(), sys.exit(130)))
pathlib.Path("{started}").write_text(str(os.getpid()))
time.sleep(60)
"""


def test_ctrl_c_lets_the_stage_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, saved = tmp_path / "started", tmp_path / "saved"
    recipe = tmp_path / "recipe"
    recipe.write_text(SLOW_TO_STOP.format(python=sys.executable, saved=saved, started=started), encoding="utf-8")
    recipe.chmod(0o755)

    def press_ctrl_c() -> None:
        """A terminal sends the signal to both processes at once."""
        while not (started.exists() and started.read_text()):
            time.sleep(0.02)
        for process in (int(started.read_text()), os.getpid()):
            os.kill(process, signal.SIGINT)

    (tmp_path / "sft").mkdir()
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "executable", str(recipe))
    finger = threading.Thread(target=press_ctrl_c)
    finger.start()
    arguments: Any = Namespace(seed=0, output=tmp_path)
    with pytest.raises(SystemExit) as stopped:
        demo.run_stage("sft", tmp_path / "sft", tmp_path / "train.jsonl", arguments)
    finger.join()

    assert stopped.value.code == 130
    assert saved.exists(), "the demo must wait until the recipe has saved"
    assert signal.getsignal(signal.SIGINT) is handler
