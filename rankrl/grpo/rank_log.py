"""What happens at each rank, collected over a logging step: groups of ranks for the console, vectors for a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from transformers import TrainerCallback

from catalog.files import whole_file
from rankrl.grpo.credit import Lists, Tokens
from rankrl.grpo.objective import unit_mean, unit_present


class RankLog:
    """Collects `(K,)` sums and counts per metric and hands out their means, by rank and by group of ranks.

    Args:
        num_ranks: K.

    Example:
        >>> log = RankLog(num_ranks=20)
        >>> log.add("hit", sums, counts)  # (K,) each
        >>> log.grouped()  # {"hit/all": ..., "hit/1-5": ..., "hit/6-10": ..., "hit/11-20": ...}
    """

    def __init__(self, num_ranks: int) -> None:
        self.groups = {"all": slice(0, num_ranks)}
        for first, last in ((1, 5), (6, 10), (11, num_ranks)):
            if first <= num_ranks:
                last = min(last, num_ranks)
                self.groups[f"{first}-{last}"] = slice(first - 1, last)
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, np.ndarray] = {}
        self._lengths: list[float] = []

    def add(self, name: str, sums: np.ndarray, counts: np.ndarray) -> None:
        """Add what one batch saw of a metric: its sum and how many values it has, `(K,)` each."""
        self._sums[name] = self._sums.get(name, 0) + np.asarray(sums, dtype=np.float64)
        self._counts[name] = self._counts.get(name, 0) + np.asarray(counts, dtype=np.float64)

    def add_values(self, name: str, values: ArrayLike, counted: ArrayLike | None = None) -> None:
        """Add `(N, K)` values, of which `counted` says what is there; by default all."""
        values = np.asarray(values, dtype=np.float64)
        counted = np.ones(values.shape) if counted is None else np.asarray(counted, dtype=np.float64)
        self.add(name, (values * counted).sum(0), counted.sum(0))

    def add_lists(self, lists: Lists, returns: Tensor, informative: Tensor) -> None:
        """Add what the lists of all processes earn, `(N, K)`, where they differ, `(P, K)`, and what the reward saw."""
        self._lengths += lists.lengths.tolist()
        scored = ~returns.isnan()
        self.add_values("informative", informative.cpu())
        self.add_values("return", returns.nan_to_num(0.0).cpu(), scored.cpu())
        if (seen := lists.scores) is None:
            return
        present = lists.present.cpu()  # a rank that is missing is a miss, but neither in the catalogue nor out
        self.add_values("in_catalog", seen.ranked >= 0, present)
        self.add_values("repeat", seen.repeats, present)
        self.add_values("hit", seen.hits)
        self.add_values("reward_true", seen.relevance - seen.augmented)
        self.add_values("reward_augmented", seen.augmented)

    def grouped(self) -> dict[str, float]:
        """Mean of each metric over all ranks, ranks 1-5, 6-10 and 11-K; groups without a value are left out.

        `list_length` is the mean over lists of how many lines they have.
        """
        means = {"list_length": float(np.mean(self._lengths))} if self._lengths else {}
        for name, sums in self._sums.items():
            for group, ranks in self.groups.items():
                if count := self._counts[name][ranks].sum():
                    means[f"{name}/{group}"] = float(sums[ranks].sum() / count)
        return means

    def vectors(self) -> dict[str, list[float | None]]:
        """Mean of each metric at each rank, `None` where a rank has no value."""
        return {
            name: [float(s / c) if c else None for s, c in zip(sums, self._counts[name], strict=True)]
            for name, sums in self._sums.items()
        }

    def clear(self) -> None:
        """Forget everything: the next logging step begins."""
        self._sums.clear()
        self._counts.clear()
        self._lengths.clear()

    def write(self, path: Path, step: int) -> None:
        """Append the vectors as one JSON line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **self.vectors()}) + "\n")


def ranks_file(folder: Path, mode: str) -> Path:
    """Where a run keeps what happened at each rank, in `mode` "train" or "eval"."""
    return folder / f"ranks_{mode}.jsonl"


class BeginRanksFile(TrainerCallback):
    """Drops the lines of later steps: of an earlier run in the same place, or of what a resumed one does again."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        for path in filter(Path.exists, (ranks_file(Path(args.output_dir), mode) for mode in ("train", "eval"))):
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]  # a kill or a full disk leaves half a line
            with whole_file(path) as file:
                file.write("".join(line for line in whole if json.loads(line)["step"] <= state.global_step).encode())


def sums_by_rank(tokens: Tokens, metrics: dict[str, Tensor], num_ranks: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Sum `(B, U)` metrics of a loss, and the entropy, over the lists that have the rank: `(K,)` each.

    The first, `present`, is how many lists have it.
    """
    num_units = tokens.advantages.shape[1]
    present = unit_present(tokens.unit_ids, tokens.mask, num_units).to(dtype)
    entropy = unit_mean(tokens.entropies.detach(), tokens.unit_ids, tokens.mask, num_units)
    seen = {name: values.to(dtype) * present for name, values in {**metrics, "entropy": entropy}.items()}
    return {name: values[:, :num_ranks].sum(0) for name, values in {"present": present, **seen}.items()}
