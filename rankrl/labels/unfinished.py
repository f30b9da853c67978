"""Scores of a run that may be stopped: kept block by block, and not made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rankrl.labels.local import LocalScorer


def score_resumably(
    scorer: LocalScorer,
    dialogues: Sequence[Sequence[Mapping[str, str]]],
    candidates: Sequence[Sequence[str]],
    path: str | Path,
    *,
    block: int = 256,
) -> list[NDArray[np.float64]]:
    """`LocalScorer.score` that goes on where an earlier call with the same file was stopped.

    Args:
        scorer: who scores; a directory that has changed since counts as another one.
        dialogues, candidates: as for `LocalScorer.score`.
        path: the file that keeps scores, one row for each dialogue. Delete it when they have been written elsewhere.
        block: dialogues scored between two writes: what a kill may cost.

    Returns:
        As `LocalScorer.score`.
    """
    path = Path(path)
    identity = _identity(scorer)
    keys = [_key(identity, messages, texts) for messages, texts in zip(dialogues, candidates, strict=True)]
    kept = _read(path)
    missing = [row for row, key in enumerate(keys) if key not in kept]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("\n")  # ends a row that was cut short
        for start in range(0, len(missing), block):
            rows = missing[start : start + block]
            scores = scorer.score([dialogues[row] for row in rows], [candidates[row] for row in rows])
            for row, values in zip(rows, scores, strict=True):
                kept[keys[row]] = values
                file.write(json.dumps({"key": keys[row], "scores": values.tolist()}) + "\n")
            file.flush()
    return [kept[key] for key in keys]


def _read(path: Path) -> dict[str, NDArray[np.float64]]:
    """Whole rows; the last one of a run that was killed may be cut short, and is scored again."""
    kept = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        kept[row["key"]] = np.asarray(row["scores"], dtype=np.float64)
    return kept


def _key(identity: str, messages: Sequence[Mapping[str, str]], texts: Sequence[str]) -> str:
    turns = [[turn["role"], turn["content"]] for turn in messages]
    return hashlib.sha256(json.dumps([identity, turns, list(texts)]).encode()).hexdigest()[:32]


def _identity(scorer: LocalScorer) -> str:
    """The scorer's name and, for a directory, when its files were written."""
    folder = Path(scorer.name)
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    return json.dumps([scorer.name, [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]])
