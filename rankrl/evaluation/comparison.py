"""Several systems, each trained with several seeds: means, paired differences over seeds and dialogues, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

import numpy as np
from numpy.typing import ArrayLike

from rankrl.evaluation.evaluator import Scores
from rankrl.evaluation.significance import Interval, bootstrap_over_seeds


def over_seeds(
    runs: Sequence[Scores], metric: str, baseline: Sequence[Scores] | None = None, *, same_dialogues: bool = False
) -> Interval:
    """Mean of a metric over seeds, or its paired difference to another system: same seeds, same dialogues.

    Rows without the metric are left out, and so are seeds that have none (a model that writes no item shows no tail).

    Args:
        runs: the system's scores, one entry a seed.
        metric: as in `Scores.rows`.
        baseline: the scores of the other system, seed by seed.
        same_dialogues: were all seeds tested on the same dialogues? Otherwise every seed is a world of its own.

    Returns:
        The mean with its 95 % interval (`bootstrap_over_seeds`); NaN where no seed has the metric.

    Raises:
        ValueError: if the two systems were scored on different rows.
    """
    values, dialogues = [], []
    for number, run in enumerate(runs):
        row = run.rows[metric]
        if baseline is not None:
            if run.ids != baseline[number].ids:
                raise ValueError("the two systems were scored on different rows; evaluate both on the same dialogues.")
            row = row - baseline[number].rows[metric]
        there = np.isfinite(row)
        if there.any():
            values.append(row[there])
            dialogues.append([name for name, kept in zip(run.dialogues, there.tolist(), strict=True) if kept])
    if not values:
        return Interval(nan, nan, nan)
    return bootstrap_over_seeds(values, dialogues, same_dialogues=same_dialogues)


def comparison_markdown(
    scores: Mapping[str, Sequence[Scores]],
    baseline: str,
    metrics: Sequence[str],
    by_seed: str,
    *,
    same_dialogues: bool = False,
) -> list[str]:
    """A Markdown table: means over seeds and, below each, the paired difference to the baseline with its interval.

    Args:
        scores: per system its scores, one entry a seed.
        baseline: one of the systems.
        metrics: the columns.
        by_seed: the metric whose value with each seed is the last column.
        same_dialogues: as for `over_seeds`.

    Returns:
        The lines, the last one empty.
    """
    rows = [
        f"| against {baseline} | " + " | ".join(metrics) + f" | {by_seed} by seed |",
        "| --- |" + " ---: |" * len(metrics) + " --- |",
    ]
    for name, runs in scores.items():
        cells = [f"{over_seeds(runs, metric).mean:.3f}" for metric in metrics]
        if name != baseline:
            against = scores[baseline]
            gains = [str(over_seeds(runs, metric, against, same_dialogues=same_dialogues)) for metric in metrics]
            cells = [f"{cell}<br>{gain}" for cell, gain in zip(cells, gains, strict=True)]
        each = " ".join(f"{run.rows[by_seed].mean():.3f}" for run in runs)
        rows.append(f"| {name} | {' | '.join(cells)} | {each} |")
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
