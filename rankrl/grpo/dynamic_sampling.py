"""Dynamic sampling: groups that tell their lists apart in the place of groups that do not (DAPO, arXiv 2503.14476).

A batch holds `P` prompts with a group of `G` lists each: `N = P G` lists of `K` ranks over all processes. The lists of
a group stand together, but may be spread over processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.functional import pad

from rankrl.grpo.config import RankGRPOConfig
from rankrl.grpo.credit import Lists, Returns

_OWN_STREAM = 1  # beside the seed: further prompts come in another order than those of the batches


class PromptStream:
    """The rows of a data set in seeded random order, pass after pass: where further prompts come from.

    A pass holds each row once, in an order that is a function of seed and pass, so the cursor is the whole state.

    Args:
        num_rows: rows of the data set.
        seed: of the run.

    Attributes:
        cursor: how many rows were drawn so far. Set it to go on from there.

    Example:
        >>> stream = PromptStream(num_rows=3, seed=0)
        >>> sorted(stream.draw(3)), stream.cursor
        ([0, 1, 2], 3)
    """

    def __init__(self, num_rows: int, seed: int) -> None:
        self.num_rows = num_rows
        self.seed = seed
        self.cursor = 0

    def draw(self, count: int) -> list[int]:
        """The next `count` row numbers."""
        first, start = divmod(self.cursor, self.num_rows)
        passes = range(first, first + math.ceil((start + count) / self.num_rows))
        self.cursor += count
        return [row for number in passes for row in self._order(number)][start : start + count]

    def _order(self, number: int) -> list[int]:
        return np.random.default_rng([self.seed, _OWN_STREAM, number]).permutation(self.num_rows).tolist()


@dataclass(frozen=True)
class Rollout:
    """Lists that were sampled and scored.

    Attributes:
        own: the lists of this process as tensors, `(N / processes, ...)` by name. Names that begin with `prompt` are
            padded on the left, others on the right.
        lists: what is known of all `N` lists.
        returns: what they are compared by.
        informative: `(P, K)` bool, cells with spread.
    """

    own: dict[str, Tensor]
    lists: Lists
    returns: Returns
    informative: Tensor

    def groups(self, share: float) -> Tensor:
        """`(P,)` bool: groups that tell their lists apart at some rank, and at this share of all ranks at least."""
        return self.informative.any(1) & (self.informative.float().mean(1) >= share)


class DynamicSampling:
    """Replaces groups without spread by groups of further prompts, in rounds.

    A round draws as many prompts as there are places to fill (rounded up to what can be divided among processes), so
    no list is sampled in vain but for those without signal. In each round and in the batch, every process holds as
    many lists as every other. Processes agree on the informative groups of a round by one sum over all of them, and
    what follows is a function of it.

    Args:
        rows: the training data by row number.
        args: the settings: `num_generations` is G; `dynamic_sampling_share` of its ranks have to be informative for a
            group to count; after `dynamic_sampling_rounds` rounds, the places that are left keep their groups; `seed`.
        accelerator: the processes.
        padding: by name, the value that short rows are padded with; 0 where it is not given.

    Attributes:
        stream: where further prompts come from; a checkpoint holds its cursor.

    Raises:
        ValueError: for data without length.
    """

    def __init__(
        self, rows: Sequence[dict[str, Any]], args: RankGRPOConfig, accelerator: Accelerator, padding: dict[str, int]
    ) -> None:
        if not hasattr(rows, "__len__"):
            raise ValueError(
                f"dynamic_sampling_rounds is {args.dynamic_sampling_rounds}, but the training data, a "
                f"{type(rows).__name__}, have no length: further prompts are drawn by row number. Use a Dataset, or "
                "set dynamic_sampling_rounds to 0."
            )
        self.rows = rows
        self.num_generations = args.num_generations
        self.max_rounds = args.dynamic_sampling_rounds
        self.share = args.dynamic_sampling_share
        self.accelerator = accelerator
        self.padding = padding
        self.stream = PromptStream(len(rows), args.seed)

    def fill(self, batch: Rollout, sample: Callable[[list[dict[str, Any]]], Rollout]) -> tuple[Rollout, int]:
        """Fill the places of groups without spread.

        Args:
            batch: the lists of the generation batch.
            sample: from rows of the data, one for each list of this process, to the lists of all.

        Returns:
            The batch with the i-th informative group of the further prompts in the i-th place to fill, and the number
            of rounds. The shape is that of `batch`, but for the padding; scalars in `own` are left out.
        """
        informative = self._agree(batch)
        further: list[Rollout] = []
        missing = int((~informative).sum())
        while missing > 0 and len(further) < self.max_rounds:
            further.append(self._informative_groups(sample(self._further_rows(missing))))
            missing -= len(further[-1].informative)
        filler = fillers(informative, sum(len(found.informative) for found in further))
        return self._filled([batch, *further], filler), len(further)

    def _agree(self, rollout: Rollout) -> Tensor:
        votes = self.accelerator.reduce(rollout.groups(self.share).long(), reduction="sum")
        return votes == self.accelerator.num_processes

    def _further_rows(self, missing: int) -> list[dict[str, Any]]:
        """This process's part of the next round: a row of the data for each list."""
        processes, index = self.accelerator.num_processes, self.accelerator.process_index
        divisible = processes // math.gcd(processes, self.num_generations)
        drawn = self.stream.draw(math.ceil(missing / divisible) * divisible)
        lists = [number for number in drawn for _ in range(self.num_generations)]
        share = len(lists) // processes
        return [self.rows[number] for number in lists[index * share : (index + 1) * share]]

    def _informative_groups(self, drawn: Rollout) -> Rollout:
        """The informative groups of a round; `own` holds the lists of all processes now."""
        groups = self._agree(drawn)
        rows = groups.repeat_interleave(self.num_generations)
        own = {name: self._gather(name, values)[rows] for name, values in drawn.own.items() if values.ndim}
        return Rollout(own, take([drawn.lists], rows), take([drawn.returns], rows), drawn.informative[groups])

    def _gather(self, name: str, values: Tensor) -> Tensor:
        fill, left = self.padding.get(name, 0), name.startswith("prompt")
        return self.accelerator.gather(self.accelerator.pad_across_processes(values, 1, fill, pad_first=left))

    def _filled(self, rollouts: list[Rollout], filler: Tensor) -> Rollout:
        own: dict[str, list[Tensor]] = {
            name: [rollout.own[name] for rollout in rollouts] for name, values in rollouts[0].own.items() if values.ndim
        }
        size = len(filler) * self.num_generations // self.accelerator.num_processes
        mine = filled_rows(filler, self.num_generations, self.accelerator.process_index * size, size)
        rows = filled_rows(filler, self.num_generations, 0, len(filler) * self.num_generations)
        return Rollout(
            {name: self._stack(name, parts)[mine] for name, parts in own.items()},
            take([rollout.lists for rollout in rollouts], rows),
            take([rollout.returns for rollout in rollouts], rows),
            take([rollout.informative for rollout in rollouts], filled_rows(filler, 1, 0, len(filler))),
        )

    def _stack(self, name: str, parts: list[Tensor]) -> Tensor:
        return stack_rows(parts, self.padding.get(name, 0), left=name.startswith("prompt"))


def fillers(informative: Tensor, available: int) -> Tensor:
    """Which further group fills which place of the batch.

    Args:
        informative: `(P,)` bool, of the batch.
        available: how many informative groups were found beside it.

    Returns:
        `(P,)` long: -1 where the batch keeps its group.

    Example:
        >>> fillers(torch.tensor([False, True, False, False]), available=2)
        tensor([ 0, -1,  1, -1])
    """
    turn = (~informative).cumsum(0) - 1
    return torch.where(~informative & (turn < available), turn, -1)


def filled_rows(filler: Tensor, num_generations: int, first: int, count: int) -> Tensor:
    """Where lists `first` to `first + count` of the filled batch stand: `(count,)` long.

    Rows below `count` are the same lists of the batch before, the others those of the further groups, one after the
    other.
    """
    lists = torch.arange(first, first + count, device=filler.device)
    group = filler[lists // num_generations]
    return torch.where(group < 0, lists - first, count + group * num_generations + lists % num_generations)


def stack_rows(parts: list[Tensor], fill: float = 0, *, left: bool = False) -> Tensor:
    """Put `(B_i, T_i, ...)` below each other, `(sum of B_i, longest T, ...)`, padded with `fill`."""
    parts = [part for part in parts if len(part)]  # a round that found nothing widens nothing
    width = max((part.shape[1] for part in parts if part.ndim > 1), default=0)

    def widened(part: Tensor) -> Tensor:
        gap = width - part.shape[1] if part.ndim > 1 else 0
        if not gap:
            return part
        return pad(part, (0, 0) * (part.ndim - 2) + ((gap, 0) if left else (0, gap)), value=fill)

    return torch.cat([widened(part) for part in parts])


def take(parts: list[Any], rows: Tensor) -> Any:
    """Rows of equal parts put below each other: tensors, arrays, dataclasses of them. All else they have in common."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)[rows]
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)[rows.cpu().numpy()]
    if is_dataclass(first) and not isinstance(first, type):
        return replace(first, **{f.name: take([getattr(part, f.name) for part in parts], rows) for f in fields(first)})
    return first
