"""Every benchmark runs, at toy sizes, and fails where its two sides compute different things. No time is asserted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import __main__ as runner
from benchmarks import adjust, grpo_step, lookup, plan_memory, remap, retrieve, reward, segments
from benchmarks.measure import Row, Table
from rankrl.labels import Retrieved

TRIED = ("SFT, all weights", "SFT, LoRA", "Rank-GRPO, all weights", "Rank-GRPO, LoRA")
RUNS: dict[str, tuple[Callable[[], Iterable[Table]], int]] = {
    "segments": (lambda: segments.run(size=4, length=40, num_ranks=3, vocabulary=500, runs=1), 2),
    "reward": (lambda: reward.run(items=600, size=16, num_ranks=4, runs=2), 1),
    "lookup": (lambda: lookup.run(sizes=[60, 90], size=4, num_ranks=3), 2),
    "grpo_step": (lambda: grpo_step.run(size=8, length=12, steps=1, rounds=1), 1 + torch.cuda.is_available()),
    "remap": (lambda: remap.run(sizes=[60, 90], dialogues=[20, 40], titles=30, num_candidates=50, dimension=8), 2),
    "adjust": (lambda: adjust.run(items=40, dialogues=[30, 60], num_candidates=10), 2),
    "retrieve": (lambda: retrieve.run(sizes=[60, 90], dialogues=[20, 40], number=5, dimension=8), 2),
    "plan_memory": (lambda: plan_memory.run(batches=[2], cases=TRIED), 1),
}
MEASURED: dict[str, list[Table]] = {}


def test_every_benchmark_is_tried_here() -> None:
    assert set(RUNS) == {*runner.BENCHMARKS, *runner.LONG}


@pytest.mark.parametrize("name", RUNS)
def test_runs_at_toy_size(name: str) -> None:
    run, expected = RUNS[name]
    tables = MEASURED.setdefault(name, list(run()))
    assert len(tables) == expected
    assert all(row.figure >= 0 for table in tables for row in table.rows)
    assert any(row.met is not None for table in tables for row in table.rows), "a benchmark has a target"


def test_a_plan_of_memory_is_near_what_a_step_takes() -> None:
    """Of SFT and Rank-GRPO, all weights and LoRA; the bounds are those of docs/scaling.md."""
    rows = [row for table in MEASURED.get("plan_memory") or RUNS["plan_memory"][0]() for row in table.rows]
    assert [(row.what, row.figure) for row in rows if not row.met] == []
    assert len(rows) == len(TRIED)


def test_segments_that_differ_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "segment_ranks", lambda ids, mask, table, num_ranks: torch.zeros_like(ids))
    with pytest.raises(AssertionError, match="not equal"):
        list(RUNS["segments"][0]())


def test_rewards_that_differ_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward, "by_hand", lambda completions, num_ranks, **_: [[0.5] * num_ranks] * len(completions))
    with pytest.raises(AssertionError, match="not equal"):
        list(RUNS["reward"][0]())


def test_forms_of_remap_that_differ_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remap, "remap_scores", lambda lists, similarity, same, context: context + 1)
    with pytest.raises(AssertionError, match="Not equal"):
        list(RUNS["remap"][0]())


def test_a_retrieval_that_is_not_exact_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def half_blind(queries: np.ndarray, keys: np.ndarray, number: int, **settings: int) -> Retrieved:
        return nearest(queries, np.where(np.arange(len(keys))[:, None] % 2, keys, 0), number, **settings)

    nearest = retrieve.retrieve
    monkeypatch.setattr(retrieve, "retrieve", half_blind)
    with pytest.raises(AssertionError, match="not equal"):
        list(RUNS["retrieve"][0]())


def test_trainers_that_sample_different_lists_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    train = grpo_step.train

    def other_seed(side: str, policy: Path, clock: grpo_step.Clock, seed: int, **settings: int) -> None:
        train(side, policy, clock, seed + (side == "RankGRPOTrainer"), **settings)

    monkeypatch.setattr(grpo_step, "train", other_seed)
    with pytest.raises(AssertionError, match="sampled different lists"):
        list(RUNS["grpo_step"][0]())


def test_a_row_knows_whether_its_target_is_met() -> None:
    assert Row("a", 9.9, "ms", at_most=10).met is True
    assert Row("a", 10.1, "ms", at_most=10).met is False
    assert Row("a", 99.0, "x", at_least=100).met is False
    assert Row("a", 99.0, "x").met is None


def test_the_runner_prints_targets_and_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table("A table", [Row("fast", 9.0, "ms", at_most=10), Row("slow", 1234.5, "x", at_least=2000)])
    monkeypatch.setattr(reward, "run", lambda: [table])
    page = tmp_path / "speed.md"
    runner.main(["reward", "--markdown", str(page)])
    printed = capsys.readouterr().out
    assert "| fast | 9.000 ms | at most 10    | yes    |" in printed
    assert "| slow |  1,234 x | at least 2000 | **no** |" in printed
    assert "1 of 2 targets are met." in printed
    assert str(table) in page.read_text()
    assert "python -m benchmarks reward" in page.read_text()


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        runner.main(["rewards"])
    assert (
        "no benchmark is called rewards; there are segments, reward, lookup, grpo_step, remap, adjust"
        in capsys.readouterr().err
    )
