"""What is read from the folder of a finished run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rankrl.run.record import RunRecord

LOG = [
    {"step": 5, "time/step": 2.0, "lists_sampled": 160},
    {"step": 5, "valid/ndcg@10": 0.2},
    {"step": 10, "time/step": 1.0, "lists_sampled": 320},
    {"step": 10, "train_runtime": 99.0, "lists_sampled": 320},
]


def write(folder: Path, log: list[dict], looks: list[tuple[int, float]] | None = None) -> Path:
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": log}), encoding="utf-8")
    if looks is not None:
        validations = [{"step": step, "mean": mean} for step, mean in looks]
        record = {"best_step": 10, "validations": validations}
        (folder / "validation.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def test_lists_and_seconds_until_each_validation(tmp_path: Path) -> None:
    run = RunRecord.load(write(tmp_path, LOG, [(0, 0.1), (5, 0.2), (10, 0.3)]))
    assert (run.lists_sampled, run.seconds, run.best_step) == (320, 15.0, 10)
    assert np.array_equal(run.lists, [0, 160, 320])
    assert np.array_equal(run.clock, [0, 10, 15])
    assert np.array_equal(run.scores, [0.1, 0.2, 0.3])


def test_sampled_lists_are_those_of_the_last_quarter(tmp_path: Path) -> None:
    log = [
        {"lists_sampled": 160, "time/step": 2.0, "step": step, "hit/all": step / 8, "hit/1-5": 0.5}
        for step in range(1, 9)
    ]
    assert RunRecord.load(write(tmp_path, log)).sampled == {
        "hit/all": (7 / 8 + 1) / 2,
        "hit/1-5": 0.5,
        "time/step": 2.0,
    }


def test_returns_of_ranks_are_those_of_the_last_quarter(tmp_path: Path) -> None:
    rows = [{"step": step, "return": [step / 8, 0.5, None]} for step in range(1, 9)] + [{"step": 9}]
    (tmp_path / "ranks_train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    returns = RunRecord.load(write(tmp_path, LOG)).returns
    assert returns[:2].tolist() == [(7 / 8 + 1) / 2, 0.5]
    assert np.isnan(returns[2])


def test_a_run_without_validation(tmp_path: Path) -> None:
    run = RunRecord.load(write(tmp_path, LOG))
    assert (run.best_step, len(run.scores), run.lists_sampled, len(run.returns)) == (None, 0, 320, 0)


def test_the_log_of_another_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the log of a run of stage 2"):
        RunRecord.load(write(tmp_path, [{"step": 5, "loss": 1.0}]))
