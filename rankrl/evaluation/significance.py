"""How sure a mean is: bootstrap intervals that draw whole dialogues.

The rows of one dialogue share its user and most of its text, so they are no independent observations. Drawing rows
would make intervals too narrow; here a draw takes a dialogue with all of its rows.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_WEIGHTS_AT_ONCE = 4_000_000  # 32 MB of draw counts


@dataclass(frozen=True)
class Interval:
    """A mean with the interval it lies in, in the unit of the values."""

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def parse(cls, value: Any) -> "Interval":
        """Read an `Interval`, `{"mean", "low", "high"}` or a plain number (an interval without width)."""
        if isinstance(value, Interval):
            return value
        if isinstance(value, dict):
            return cls(**value)
        return cls(float(value), float(value), float(value))

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def plain_metrics(systems: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Metrics of systems as JSON can hold them: an `Interval` becomes `{"mean", "low", "high"}`, the rest stays."""
    return {
        name: {metric: value.to_json() if isinstance(value, Interval) else value for metric, value in values.items()}
        for name, values in systems.items()
    }


def bootstrap_mean(
    values: ArrayLike,
    dialogues: Sequence[str],
    *,
    level: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean over rows and its percentile bootstrap interval over dialogues.

    Args:
        values: `(B,)`, one value per row.
        dialogues: B names; rows with the same name are drawn together. `[rankrl.data.dialogue_of(id) for id in ids]`.
        level: the share of the draws that lie inside the interval.
        num_samples: number of draws.
        seed: same seed, same interval.

    Returns:
        `Interval`; without width if there is a single dialogue.

    Raises:
        ValueError: if there is no row, a value is not finite, or the lengths differ.
    """
    return bootstrap_means({"": values}, dialogues, level=level, num_samples=num_samples, seed=seed)[""]


def bootstrap_means(
    metrics: Mapping[str, ArrayLike],
    dialogues: Sequence[str],
    *,
    partial: Collection[str] = (),
    level: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """`bootstrap_mean` of several metrics of the same rows, from the same draws: hardly more work than one of them.

    Args:
        metrics: per metric `(B,)` values.
        dialogues: B names.
        partial: metrics that not every row has. A row without one holds NaN, and the mean is over the others, in the
            draws too; a metric that no row has is left out. NaN in any other metric is an error.
        level, num_samples, seed: as for `bootstrap_mean`.
    """
    summed = {name: _sum_by_dialogue(values, dialogues, name in partial) for name, values in metrics.items()}
    summed = {name: (sums, counts) for name, (sums, counts) in summed.items() if counts.any()}
    if not summed:
        return {}
    sums, counts = (np.stack(parts, axis=1) for parts in zip(*summed.values(), strict=True))  # (C, metrics) each
    rng = np.random.default_rng(seed)
    means = _means_of_draws(sums, counts, num_samples, rng)
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    mean = sums.sum(axis=0) / counts.sum(axis=0)
    return {
        name: Interval(float(mean[column]), float(low[column]), float(high[column]))
        for column, name in enumerate(summed)
    }


def standard_error(values: ArrayLike, dialogues: Sequence[str]) -> float:
    """Return the standard error of the mean over rows, in the unit of the values, without drawing anything.

    Whole dialogues are what is independent, as in the bootstrap: with e_c the sum over dialogue c of what its rows
    differ from the mean, SE = sqrt(C / (C - 1) * sum of e_c^2) / B (the ratio estimator; Cochran, *Sampling
    Techniques*, 1977, section 6.3). Where every dialogue has one row, that is the sample deviation over sqrt(B).

    Args:
        values: `(B,)`, one value per row; for a paired difference the differences.
        dialogues: B names, C of them distinct.

    Raises:
        ValueError: if there are fewer than two dialogues, a value is not finite, or the lengths differ.

    Example:
        >>> standard_error([0.0, 1.0, 1.0, 0.0], ["a", "b", "c", "d"])  # deviation 0.577, over sqrt(4)
        0.28867513459481287
    """
    sums, counts = _sum_by_dialogue(values, dialogues, partial=False)
    if len(sums) < 2:
        raise ValueError("all rows are of one dialogue, so nothing says how much dialogues differ; give at least two.")
    residuals = sums - counts * (sums.sum() / counts.sum())
    return float(np.sqrt(len(sums) / (len(sums) - 1) * np.square(residuals).sum()) / counts.sum())


def bootstrap_over_seeds(
    values: Sequence[ArrayLike],
    dialogues: Sequence[Sequence[str]],
    *,
    same_dialogues: bool = False,
    level: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean over training runs of their means over rows, with an interval for both kinds of chance.

    A draw takes runs with replacement and dialogues with replacement: anew for every run that it took if each run has
    test dialogues of its own, as where every seed is another simulated world; once for all runs if they were tested on
    the same dialogues, which share what makes those hard. For a paired difference of two systems, pass the differences
    row by row, of runs with the same seed.

    Args:
        values: per run `(B,)`, one value per row.
        dialogues: per run B names; rows with the same name are drawn together.
        same_dialogues: were all runs tested on the same dialogues?
        level, num_samples, seed: as for `bootstrap_mean`.

    Returns:
        `Interval`. With a single run it is that of `bootstrap_mean`, up to the draws. Few runs make it too narrow
        rather than too wide: five runs say little of their own spread.

    Raises:
        ValueError: if there is no run, a run's rows cannot be used, or `same_dialogues` is said of different ones.
    """
    if not values or len(values) != len(dialogues):
        raise ValueError(f"got values of {len(values)} runs and names of {len(dialogues)}; give both for every run.")
    if same_dialogues and any(set(names) != set(dialogues[0]) for names in dialogues):
        raise ValueError("the runs were tested on different dialogues; score all of them on the same.")
    runs = [_sum_by_dialogue(row, names, partial=False) for row, names in zip(values, dialogues, strict=True)]
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(runs), size=(num_samples, len(runs)))
    if same_dialogues:
        sums, counts = (np.stack(columns, axis=1) for columns in zip(*runs, strict=True))  # (C, runs)
        means = np.take_along_axis(_means_of_draws(sums, counts, num_samples, rng), drawn, axis=1)
    else:
        means = np.empty(drawn.shape)
        for run, (sums, counts) in enumerate(runs):
            taken = drawn == run
            means[taken] = _means_of_draws(sums[:, None], counts[:, None], int(taken.sum()), rng)[:, 0]
    low, high = np.quantile(means.mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    mean = np.mean([sums.sum() / counts.sum() for sums, counts in runs])
    return Interval(float(mean), float(low), float(high))


def _sum_by_dialogue(
    values: ArrayLike, dialogues: Sequence[str], partial: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each dialogue's sum of values and number of rows that have one, `(C,)` each."""
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (len(dialogues),) or not len(dialogues):
        raise ValueError(f"got values of shape {values.shape} and {len(dialogues)} dialogue names; give one per row.")
    there = ~np.isnan(values) if partial else np.ones(len(values), dtype=bool)
    if not np.isfinite(values[there]).all():
        row = int(np.argmin(np.isfinite(values) | ~there))
        raise ValueError(f"value {row} is not finite; leave such rows out knowingly.")
    names, group = np.unique(np.asarray(dialogues), return_inverse=True)
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    np.add.at(sums, group[there], values[there])
    np.add.at(counts, group[there], 1)
    return sums, counts


def _means_of_draws(
    sums: NDArray[np.float64], counts: NDArray[np.float64], num_samples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """`_resampled_means` in batches that fit memory."""
    at_once = max(1, _WEIGHTS_AT_ONCE // len(sums))
    sizes = [min(at_once, num_samples - start) for start in range(0, num_samples, at_once)]
    return np.concatenate(
        [np.empty((0, sums.shape[1])), *(_resampled_means(sums, counts, size, rng) for size in sizes)]
    )


def _resampled_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], num_samples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw C dialogues with replacement, `num_samples` times; how often each was drawn is all that matters.

    Takes sums and counts, `(C, metrics)` each; returns `(num_samples, metrics)`, NaN where nothing drawn has a value.
    """
    num_dialogues = len(sums)
    drawn = rng.integers(num_dialogues, size=(num_samples, num_dialogues))
    drawn += np.arange(num_samples)[:, None] * num_dialogues
    weights = np.bincount(drawn.ravel(), minlength=num_samples * num_dialogues).reshape(num_samples, num_dialogues)
    with np.errstate(invalid="ignore"):
        return (weights @ sums) / (weights @ counts)
