"""The log that transformers keeps of a run, in `trainer_state.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def read_log(run: str | Path) -> list[dict[str, Any]]:
    """The entries of a run's log: of a finished one, or of the newest checkpoint of one that is under way.

    Raises:
        FileNotFoundError: if there is neither.
    """
    folder = Path(run)
    states = [*folder.glob("trainer_state.json"), *folder.glob("checkpoint-*/trainer_state.json")]
    newest = max(states, key=lambda path: path.stat().st_mtime_ns, default=None)
    if newest is None:
        raise FileNotFoundError(
            f"{folder} holds no trainer_state.json, and no checkpoint that does. Name the output_dir of a run. One "
            "that has just begun has nothing to show before its first checkpoint."
        )
    return json.loads(newest.read_text(encoding="utf-8"))["log_history"]


def series(log: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one logged number."""
    rows = [(entry["step"], entry[key]) for entry in log if key in entry]
    return [float(step) for step, _ in rows], [float(value) for _, value in rows]
