"""How a run scales: the same lists a step on more and more GPUs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from rich.table import Table

from rankrl.plan.arithmetic import Shape
from rankrl.plan.estimate import Device, Setup, memory, peak, step_time

PARTS = ("rollout", "scoring", "update", "sync")
GPUS_A_MACHINE = 8  # of those that there may be, where nobody says how many machines


def spread(setup: Setup, gpus: int) -> Setup:
    """The same step on another number of GPUs: fewer micro-batches, then smaller ones, so that as much is learned.

    Raises:
        ValueError: if the lists of a step cannot be shared.

    Example:
        >>> step = Setup("rank_grpo", strategy="ddp", processes=8, batch=8, accumulation=6, rollout=48)
        >>> more = spread(step, 96)  # 384 lists: 4 on each
        >>> more.batch, more.accumulation, more.rollout
        (4, 1, 4)
    """
    lists, left = divmod(setup.lists_a_step, gpus)
    if left or not lists:
        divisors = [str(n) for n in range(1, setup.lists_a_step + 1) if setup.lists_a_step % n == 0]
        raise ValueError(
            f"a step of {setup.lists_a_step} lists cannot be shared by {gpus} GPUs; --scale takes divisors of it: "
            f"{', '.join(divisors)}."
        )
    batch = max(size for size in range(1, setup.batch + 1) if lists % size == 0)
    strategy = setup.strategy
    if strategy in ("single", "ddp"):
        strategy = "ddp" if gpus > 1 else "single"
    at_once = lists if setup.rollout >= setup.batch * setup.accumulation else min(setup.rollout, lists)
    return replace(
        setup,
        processes=gpus,
        nodes=math.ceil(gpus / GPUS_A_MACHINE),
        strategy=strategy,
        batch=batch,
        accumulation=lists // batch,
        rollout=at_once,
    )


def scaling_table(
    shape: Shape, setup: Setup, usual: Setup, device: Device, steps: int | None, numbers: Iterable[int]
) -> Table:
    """Memory and time on so many GPUs each, and what most of a step goes to.

    Args:
        shape: of the model.
        setup: of the run, with the most tokens, for memory.
        usual: the same with the tokens that prompts and lists usually have, for time.
        device: of each process.
        steps: of the run, if they are known.
        numbers: of GPUs, eight to a machine.
    """
    table = Table("GPUs", "lists on each", "GB", "s a step", *PARTS, "hours", "most is")
    for column in table.columns[:-1]:
        column.justify = "right"
    for gpus in numbers:
        planned = spread(setup, gpus)
        time = step_time(shape, spread(usual, gpus), device)
        seconds = {name: getattr(time, name) for name in PARTS}
        table.add_row(
            f"{gpus:,}",
            f"{planned.accumulation} x {planned.batch}",
            f"{peak(memory(shape, planned, device)) / 1e9:.1f}",
            f"{time.total:.1f}",
            *(f"{value:.1f}" for value in seconds.values()),
            "" if steps is None else f"{steps * time.total / 3600:.1f}",
            max(seconds, key=lambda name: seconds[name]),
        )
    return table
