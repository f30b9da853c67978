"""A probe runs the recipe as a user would, and leaves nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rankrl.data import save_dialogues
from rankrl.data.simulation import simulate
from rankrl.plan.probe import Probe, launcher, run_probe

REPOSITORY = Path(__file__).resolve().parents[2]


def test_two_steps_of_stage_one(tmp_path: Path) -> None:
    data = simulate(4, 0, 0, seed=0, num_ranks=3, num_items=50)
    data.catalog.save(tmp_path / "catalog.jsonl")
    save_dialogues(tmp_path / "train.jsonl", data.train)
    flags = ["--catalog", str(tmp_path / "catalog.jsonl"), "--dialogues", str(tmp_path / "train.jsonl")]
    config = REPOSITORY / "recipes" / "configs" / "demo" / "sft.yaml"
    before = sorted(REPOSITORY.iterdir())
    probe = run_probe("sft", str(config), [*flags, "--num_ranks", "3"], 2, root=REPOSITORY)
    assert probe.steps == 2
    assert probe.seconds > 0
    assert 1e8 < probe.peak < 1e11
    assert sorted(REPOSITORY.iterdir()) == before


def test_a_recipe_that_fails_says_why(tmp_path: Path) -> None:
    config = REPOSITORY / "recipes" / "configs" / "demo" / "sft.yaml"
    flags = ["--catalog", str(tmp_path / "none.jsonl"), "--dialogues", "none"]
    with pytest.raises(RuntimeError, match=r"(?s)the probe ended with status 1:.*none\.jsonl"):
        run_probe("sft", str(config), flags, 1, root=REPOSITORY)


def test_outside_the_repository(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="from the root of the repository"):
        run_probe("sft", "sft.yaml", [], 1, root=tmp_path)


def test_what_it_says() -> None:
    probe = Probe(3, 12.0, 2_500_000_000)
    assert "3 steps took 12.0 s, 4.00 s each" in probe.in_words(None)
    assert "1,800 steps would take 2.00 hours. Peak memory of the host: 2.50 GB." in probe.in_words(1800)


def test_how_processes_are_started() -> None:
    assert launcher(None, 1) == []
    words = launcher("accelerate_configs/zero2.yaml", 8)
    assert words[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert words[3:7] == ["--config_file", "accelerate_configs/zero2.yaml", "--num_processes", "8"]
