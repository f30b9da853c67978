"""Two processes of which one has nothing to say: as a program, one of the two.

accelerate launch tests/launch/gathering.py POLICY OUTPUT
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from catalog import Catalog
from rankrl.rewards import RankReward
from tests.grpo.batches import WHOLE, cut
from tests.grpo.conftest import NUM_RANKS, TITLES, letters_reward, prompts, rank_trainer
from tests.grpo.injected import Steps, train_on

# Eight lists; the last four are those of process 1. An end token follows where `\0` stands.
PROPER = ("aa\nbb\ncc\0", "bb\naa\ncc\0", "ee\ncc\0", "dd\naa\nbb\ncc\0")
MALFORMED = ("\0", "\n\n\0", "zz zz\0", "zz\0")
TRUTH = {"title": "aa"}


def none_of_z(completions: list[str], **columns: Any) -> list[list[float] | None]:
    """`letters_reward`, and no score for lists that begin with a z."""
    rewards = letters_reward(completions)
    return [None if text.startswith("z") else row for text, row in zip(completions, rewards, strict=True)]


def true_titles() -> RankReward:
    """The reward of the recipes on the six titles."""
    return RankReward(Catalog([(title, None) for title in TITLES]), NUM_RANKS)


@dataclass(frozen=True)
class Case:
    """Lists, what they are paid by, and on how many prompts they are trained: two a step."""

    reward: Callable[[], Any]
    lists: tuple[str, ...]
    prompts: int = 8


SCORED, UNSCORED = PROPER, tuple(f"z{text}" for text in PROPER)
CASES = {
    "malformed lists alone": Case(true_titles, (*PROPER, *MALFORMED)),
    "malformed lists alone, on the first process": Case(true_titles, (*MALFORMED, *PROPER)),
    "no score": Case(lambda: none_of_z, (*SCORED, *UNSCORED)),
    "no score, on the first process": Case(lambda: none_of_z, (*UNSCORED, *SCORED)),
    "a prompt left over": Case(true_titles, (*PROPER, *MALFORMED), prompts=3),  # at the end of each epoch
}


def run_all(policy: Path, output: Path, processes: int = 1) -> dict[str, tuple[Steps, dict[str, float]]]:
    """What each case makes of the eight lists, and of an evaluation on a prompt that comes five times.

    Two processes cannot share five: accelerate gives the second one the first once more, and so one process gets six.
    TRL shuffles what is evaluated, five and six in other orders; a prompt by itself has none.
    """
    found = {}
    data = prompts({"ground_truth": [[TRUTH]] * 8})
    evaluated = data.select([0] * (6 if processes == 1 else 5))
    for name, case in CASES.items():
        settings = {**WHOLE, **cut(1, processes), "per_device_eval_batch_size": 8 // processes, "max_steps": 4}
        trainer = rank_trainer(
            policy, output / name, reward_funcs=case.reward(), data=data.select(range(case.prompts)), **settings
        )
        steps = train_on(trainer, case.lists)
        found[name] = steps, trainer.evaluate(evaluated)
    return found


def main(policy: str, output: str) -> None:
    """Save what this process, one of two, has seen."""
    found = run_all(Path(policy), Path(output), processes=2)
    seen = {name: (steps.gradients, steps.logs, metrics) for name, (steps, metrics) in found.items()}
    torch.save(seen, Path(output) / f"{torch.distributed.get_rank()}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
