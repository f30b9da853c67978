"""The same lists give the same loss and gradient however they are spread: in parts, over processes, both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.grpo.batches import RUNS, WHOLE, cut, run_all
from tests.grpo.injected import Steps, gap, train_on
from tests.launch.launcher import run_by_two

# Of all lists, whoever held them.
LOGGED = ("loss", "kl/all", "ratio/all", "entropy/all", "entropy/1-3")
LOGGED_ON_GENERATION = ("reward", "list_length", "return/all", "informative/all")


@pytest.fixture(scope="module")
def whole(policy_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Steps]:
    return run_all(policy_dir, tmp_path_factory.mktemp("whole"), 1)


@pytest.fixture(scope="module")
def on_two_processes(policy_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two real processes, joined by gloo, have saved."""
    output = tmp_path_factory.mktemp("two")
    run_by_two("grpo/batches.py", policy_dir, output)
    return output


def require_same(gradients: list, logs: list, expected: Steps) -> None:
    assert len(gradients) == len(logs) == len(expected.gradients) == WHOLE["max_steps"]
    for found, wanted in zip(gradients, expected.gradients, strict=True):
        assert gap(found, wanted) < 1e-5
    for step, (found, wanted) in enumerate(zip(logs, expected.logs, strict=True)):
        for name in (*LOGGED, *([] if step else LOGGED_ON_GENERATION)):
            assert found[name] == pytest.approx(wanted[name], rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("accumulation", [2, 4])
def test_in_parts(accumulation: int, policy_dir: Path, tmp_path: Path, whole: dict[str, Steps]) -> None:
    for name, found in run_all(policy_dir, tmp_path, accumulation).items():
        require_same(found.gradients, found.logs, whole[name])


@pytest.mark.launch
@pytest.mark.parametrize("accumulation", [1, 2, 4])
@pytest.mark.parametrize("name", RUNS)
def test_over_two_processes(name: str, accumulation: int, on_two_processes: Path, whole: dict[str, Steps]) -> None:
    folder = on_two_processes / str(accumulation)
    logs = json.loads((folder / "logs.json").read_text(encoding="utf-8"))
    require_same(torch.load(folder / "gradients.pt")[name], logs[name], whole[name])


def test_the_steps_differ_and_say_something(whole: dict[str, Steps]) -> None:
    for steps in whole.values():
        assert gap(steps.gradients[1], steps.gradients[0]) > 1e-3
        assert steps.logs[1]["kl/all"] > 1e-4
    assert gap(whole["scaled by the batch"].gradients[0], whole["rank_grpo"].gradients[0]) > 1e-3


@pytest.mark.parametrize("accumulation", [2, 4])
def test_the_released_code_depends_on_the_parts(accumulation: int, make_trainer) -> None:
    official = {**WHOLE, "preset": "rank_grpo_official", "max_steps": 1}
    one, several = (train_on(make_trainer(f"by {n}", **official, **cut(n))).gradients[0] for n in (1, accumulation))
    assert gap(several, one) > 1e-3
