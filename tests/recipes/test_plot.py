"""The command that draws runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recipes import plot


def make_run(folder: Path) -> Path:
    folder.mkdir()
    log = [{"step": 1, "hit/all": 0.1, "reward": 0.1}, {"step": 2, "hit/all": 0.2, "reward": 0.2}]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": log}), encoding="utf-8")
    return folder


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr("sys.argv", ["plot", *map(str, words)])
    plot.main()


def test_one_run_gets_its_picture_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(monkeypatch, make_run(tmp_path / "a"))
    assert (tmp_path / "a" / "run.png").read_bytes().startswith(b"\x89PNG")


def test_two_runs_of_one_name_need_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").mkdir()
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "x" / "a")]
    with pytest.raises(SystemExit):
        call(monkeypatch, *runs)
    assert "give --names" in capsys.readouterr().err
    call(monkeypatch, *runs, "--names", "good", "bad", "--output", tmp_path / "both.png")
    assert (tmp_path / "both.png").is_file()


def test_a_run_of_another_stage_is_not_drawn_as_empty_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = {"log_history": [{"step": 5, "loss": 0.5, "entropy": 2.0}]}
    (tmp_path / "trainer_state.json").write_text(json.dumps(log), encoding="utf-8")
    with pytest.raises(ValueError, match="is no run of stage 2: its log has no rewards"):
        call(monkeypatch, tmp_path)
