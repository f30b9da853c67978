"""Scores of a run that may be stopped: kept block by block, and not made again."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rankrl.shards import Shard

if TYPE_CHECKING:
    from rankrl.labels.local import LocalScorer


def score_resumably(
    scorer: LocalScorer,
    dialogues: Sequence[Sequence[Mapping[str, str]]],
    candidates: Sequence[Sequence[str]],
    path: str | Path,
    *,
    block: int = 256,
    shard: Shard | None = None,
) -> list[NDArray[np.float64]]:
    """`LocalScorer.score` that goes on where an earlier call with the same file was stopped.

    Args:
        scorer: who scores; a directory that has changed since counts as another one.
        dialogues, candidates: as for `LocalScorer.score`.
        path: the file that keeps scores, one row for each dialogue. Delete it when they have been written elsewhere.
        block: dialogues scored between two writes: what a kill may cost.
        shard: write to a file of this shard beside `path`. What any shard has scored is read.

    Returns:
        As `LocalScorer.score`.
    """
    path = Path(path)
    own = path if shard is None else Path(f"{path}.shard-{shard.name}")
    identity = _identity(scorer)
    keys = [_key(identity, messages, texts) for messages, texts in zip(dialogues, candidates, strict=True)]
    kept = {key: scores for file in unfinished_files(path) for key, scores in _read(file).items()}
    missing = [row for row, key in enumerate(keys) if key not in kept]
    own.parent.mkdir(parents=True, exist_ok=True)
    with own.open("a", encoding="utf-8") as file:
        file.write("\n")  # ends a row that was cut short
        for start in range(0, len(missing), block):
            rows = missing[start : start + block]
            scores = scorer.score([dialogues[row] for row in rows], [candidates[row] for row in rows])
            for row, values in zip(rows, scores, strict=True):
                kept[keys[row]] = values
                file.write(json.dumps({"key": keys[row], "scores": values.tolist()}) + "\n")
            file.flush()
    return [kept[key] for key in keys]


def unfinished_files(path: Path) -> list[Path]:
    """The file of an unfinished run and those of its shards: what there is of them."""
    return sorted(path.parent.glob(f"{glob.escape(path.name)}*"))


def _read(path: Path) -> dict[str, NDArray[np.float64]]:
    """Whole rows; the last one of a run that was killed may be cut short, and is scored again."""
    kept = {}
    for line in path.read_text(encoding="utf-8").splitlines():
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
