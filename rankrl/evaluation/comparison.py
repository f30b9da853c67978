"""Several systems, each trained with several seeds: means, paired differences over seeds and dialogues, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

import numpy as np
from numpy.typing import ArrayLike

from rankrl.evaluation.evaluator import Scores
from rankrl.evaluation.significance import Interval, bootstrap_over_seeds


def over_seeds(
    runs: Mapping[int, Scores],
    metric: str,
    baseline: Mapping[int, Scores] | None = None,
    *,
    same_dialogues: bool = False,
) -> Interval:
    """Mean of a metric over seeds, or its paired difference to another system: same seeds, same dialogues.

    Rows without the metric are left out, and so are seeds that have none (a model that writes no item shows no tail).

    Args:
        runs: the system's scores by seed.
        metric: as in `Scores.rows`.
        baseline: the scores of the other system by seed; a seed that only one of the two has is left out.
        same_dialogues: were all seeds tested on the same dialogues? Otherwise every seed is a world of its own.

    Returns:
        The mean with its 95 % interval (`bootstrap_over_seeds`); NaN where no seed has the metric.

    Raises:
        ValueError: if the two systems were scored on different rows, or all seeds on the same dialogues, of which not
            the same have the metric.
    """
    values, dialogues = [], []
    for seed in runs if baseline is None else shared_seeds(runs, baseline):
        run = runs[seed]
        row = run.rows[metric]
        if baseline is not None:
            if run.ids != baseline[seed].ids:
                raise ValueError("the two systems were scored on different rows; evaluate both on the same dialogues.")
            row = row - baseline[seed].rows[metric]
        there = np.isfinite(row)
        if there.any():
            values.append(row[there])
            dialogues.append([name for name, kept in zip(run.dialogues, there.tolist(), strict=True) if kept])
    if not values:
        return Interval(nan, nan, nan)
    return bootstrap_over_seeds(values, dialogues, same_dialogues=same_dialogues)


def shared_seeds(runs: Mapping[int, object], others: Mapping[int, object]) -> list[int]:
    """The seeds that two systems have in common, in the order of the first."""
    return [seed for seed in runs if seed in others]


def comparison_markdown(
    scores: Mapping[str, Mapping[int, Scores]],
    baseline: str,
    metrics: Sequence[str],
    by_seed: str,
    *,
    same_dialogues: bool = False,
) -> list[str]:
    """A Markdown table: means over seeds and, below each, the paired difference to the baseline with its interval.

    Each system is shown on the seeds that it has, and compared on those that the baseline has too: the column `seeds`
    says how many, as `3, 2 paired` where some are missing.

    Args:
        scores: per system its scores by seed.
        baseline: one of the systems.
        metrics: the columns.
        by_seed: the metric whose value with each seed is the last column.
        same_dialogues: as for `over_seeds`.

    Returns:
        The lines, the last one empty.
    """
    seeds = sorted({seed for runs in scores.values() for seed in runs})
    rows = [
        f"| against {baseline} | seeds | " + " | ".join(metrics) + f" | {by_seed} by seed |",
        "| --- |" + " ---: |" * (1 + len(metrics)) + " --- |",
    ]
    for name, runs in scores.items():
        cells = [f"{over_seeds(runs, metric).mean:.3f}" for metric in metrics]
        against = scores[baseline]
        paired = len(shared_seeds(runs, against))
        if name != baseline and paired:
            gains = [str(over_seeds(runs, metric, against, same_dialogues=same_dialogues)) for metric in metrics]
            cells = [f"{cell}<br>{gain}" for cell, gain in zip(cells, gains, strict=True)]
        number = str(len(runs)) if paired == len(runs) else f"{len(runs)}, {paired} paired"
        each = " ".join(f"{runs[seed].rows[by_seed].mean():.3f}" if seed in runs else "-" for seed in seeds)
        rows.append(f"| {name} | {number} | {' | '.join(cells)} | {each} |")
    return [*rows, ""]


def first_reach(amounts: ArrayLike, values: ArrayLike, level: float) -> float:
    """How much it took until a curve first reached a level, in the unit of `amounts`.

    Between two points the curve is a straight line.

    Args:
        amounts: `(N,)` ascending, such as lists sampled.
        values: `(N,)`, such as validation NDCG.
        level: what is to be reached.

    Returns:
        The amount; NaN if the curve stays below the level.

    Example:
        >>> first_reach([0, 100, 200], [0.1, 0.2, 0.4], level=0.3)
        150.0
    """
    amounts, values = np.asarray(amounts, dtype=float), np.asarray(values, dtype=float)
    there = np.flatnonzero(values >= level)
    if not len(there):
        return nan
    end = int(there[0])
    if not end:
        return float(amounts[0])
    share = (level - values[end - 1]) / (values[end] - values[end - 1])
    return float(amounts[end - 1] + share * (amounts[end] - amounts[end - 1]))
