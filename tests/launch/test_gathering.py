"""A process that has nothing to say takes part in every exchange all the same, and changes nothing for the other.

Each process is forced into the branch that the other does not take: malformed lists alone, no score at all. A process
that waited for the other for ever would run into the launcher's time limit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.grpo.conftest import policy_dir  # noqa: F401
from tests.grpo.injected import gap
from tests.launch.gathering import CASES, run_all
from tests.launch.launcher import run_by_two

pytestmark = pytest.mark.launch

LOGGED = ("loss", "ratio/all", "kl/all", "entropy/all")
LOGGED_ON_GENERATION = ("reward", "list_length", "return/all", "informative/all")  # every other step


def test_what_two_processes_gather_is_what_one_sees(policy_dir: Path, tmp_path: Path) -> None:  # noqa: F811
    run_by_two("launch/gathering.py", policy_dir, tmp_path)
    first, second = (torch.load(tmp_path / f"{process}.pt", weights_only=True) for process in range(2))
    whole = run_all(policy_dir, tmp_path / "whole")
    for name in CASES:
        gradients, logs, metrics = first[name]
        steps, wanted_metrics = whole[name]
        for found, wanted in zip(gradients, steps.gradients, strict=True):
            assert gap(found, wanted) < 1e-5, name
        for step, (found, wanted) in enumerate(zip(logs, steps.logs, strict=True)):
            require_close(found, wanted, LOGGED if step % 2 else LOGGED + LOGGED_ON_GENERATION)
        measured = [key for key in metrics if "/" in key or "reward" in key]
        require_close(metrics, second[name][2], measured)
        require_close(metrics, wanted_metrics, measured)
        assert metrics["eval_return/all"] == metrics["eval_return/all"], "a mean over nothing"
    assert whole["malformed lists alone"][0].logs[0]["in_catalog/all"] > 0


def require_close(found: dict[str, Any], wanted: dict[str, Any], names: Any) -> None:
    for name in names:
        assert found[name] == pytest.approx(wanted[name], rel=1e-5, abs=1e-6, nan_ok=True), name
