"""The picture of a run: which numbers it finds, and that each run is drawn."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rankrl.evaluation.run_picture import PANELS, run_picture
from rankrl.evaluation.training_log import read_log

LOG = [
    {"step": 0, "valid/ndcg@10": 0.1, "valid/ndcg@10_se": 0.9},
    {"step": 5, "hit/all": 0.2, "entropy": 1.0, "list_length": 9.5},
    {"step": 10, "hit/all": 0.3, "entropy": 0.8, "list_length": 9.6},
]


def series(title: str, log: list[dict] = LOG) -> tuple[list[int], list[float]]:
    return next(panel for panel in PANELS if panel.title == title).series(log)


def test_a_panel_finds_its_number() -> None:
    assert series("Validation NDCG") == ([0], [0.1]), "not its standard error"
    assert series("Hits of sampled lists") == ([5, 10], [0.2, 0.3])
    assert series("Repeated items") == ([], [])


def test_entropy_by_rank_before_that_of_all_tokens() -> None:
    assert series("Entropy") == ([5, 10], [1.0, 0.8])
    assert series("Entropy", [{"step": 5, "entropy": 1.0, "entropy/all": 2.0}]) == ([5], [2.0])


def test_every_run_has_a_line_where_it_has_the_number() -> None:
    figure = run_picture({"one": LOG, "two": LOG[1:]})
    lines = {axes.get_title(loc="left"): len(axes.lines) for axes in figure.axes}
    assert lines == {
        **dict.fromkeys((panel.title for panel in PANELS), 0),
        **{"Validation NDCG": 1, "Hits of sampled lists": 2, "Lines of a list": 2, "Entropy": 2},
    }
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]


def test_a_run_under_way_is_read_from_its_newest_checkpoint(tmp_path: Path) -> None:
    for age, step in ((200, 10), (100, 5)):
        state = tmp_path / f"checkpoint-{step}" / "trainer_state.json"
        state.parent.mkdir()
        state.write_text(json.dumps({"log_history": [{"step": step}]}), encoding="utf-8")
        os.utime(state, (age, age))
    assert [entry["step"] for entry in read_log(tmp_path)] == [10]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": LOG}), encoding="utf-8")
    assert read_log(tmp_path) == LOG
    os.utime(tmp_path / "trainer_state.json", (150, 150))
    assert [entry["step"] for entry in read_log(tmp_path)] == [10], "it goes on after its end, with more steps"


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Name the output_dir of a run"):
        read_log(tmp_path)
