"""What a finished run of stage 2 has left behind: how much it sampled, how long it took, what validation saw."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankrl.grpo.rank_log import ranks_file
from rankrl.run.choosing import VALIDATION_FILE


@dataclass(frozen=True)
class RunRecord:
    """One run.

    Attributes:
        lists_sampled: lists sampled in all.
        seconds: of training, without validation.
        best_step: the step that validation chose; None without validation.
        lists: `(V,)` float64, lists sampled until each of V validations.
        clock: `(V,)` float64, seconds of training until then.
        scores: `(V,)` float64, what validation measured.
        sampled: what the log says of sampled lists, `key/group` such as `hit/1-5`: means over its last quarter.
        returns: `(K,)` float64, what each rank of sampled lists earned over the last quarter; NaN where no list was
            scored, empty without `ranks_train.jsonl`.
    """

    lists_sampled: int
    seconds: float
    best_step: int | None
    lists: NDArray[np.float64]
    clock: NDArray[np.float64]
    scores: NDArray[np.float64]
    sampled: Mapping[str, float]
    returns: NDArray[np.float64]

    @classmethod
    def load(cls, folder: str | Path) -> RunRecord:
        """Read `trainer_state.json` and, where they are, `validation.json` and `ranks_train.jsonl` of a run's folder.

        Raises:
            ValueError: if the log does not say how many lists were sampled.
        """
        state = Path(folder) / "trainer_state.json"
        log = json.loads(state.read_text(encoding="utf-8"))["log_history"]
        steps, lists, seconds = _progress(log)
        if len(steps) == 1:
            raise ValueError(f"{state} has no entry with `lists_sampled`: it is not the log of a run of stage 2.")
        record = Path(folder) / VALIDATION_FILE
        choice = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {"validations": []}
        at = [look["step"] for look in choice["validations"]]
        return cls(
            lists_sampled=int(lists[-1]),
            seconds=seconds[-1],
            best_step=choice.get("best_step"),
            lists=np.interp(at, steps, lists),
            clock=np.interp(at, steps, seconds),
            scores=np.array([look["mean"] for look in choice["validations"]], dtype=np.float64),
            sampled=_last_quarter([entry for entry in log if "hit/all" in entry]),
            returns=_last_returns(ranks_file(Path(folder), "train")),
        )


def _progress(log: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float], list[float]]:
    """Optimizer steps, and the lists sampled and the seconds trained until each of them, from the start on."""
    steps, lists, seconds = [0.0], [0.0], [0.0]
    for entry in log:
        if "lists_sampled" in entry and "time/step" in entry:  # seconds a step, a mean since the entry before
            seconds.append(seconds[-1] + entry["time/step"] * (entry["step"] - steps[-1]))
            steps.append(float(entry["step"]))
            lists.append(float(entry["lists_sampled"]))
    return steps, lists, seconds


def _last_quarter(log: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means of everything that is logged by group of ranks."""
    late = log[len(log) * 3 // 4 :]
    keys = [key for key in log[-1] if "/" in key] if log else []
    return {key: float(np.mean([entry[key] for entry in late if key in entry])) for key in keys}


def _last_returns(file: Path) -> NDArray[np.float64]:
    """Means over the last quarter of what is written of each rank."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    rows = [row["return"] for line in lines if "return" in (row := json.loads(line))]
    return np.array(rows[len(rows) * 3 // 4 :], dtype=np.float64).mean(axis=0) if rows else np.zeros(0)
