"""What a fit of Adjust costs: on all items of a catalogue and on candidates, by the number of dialogues.

Users want what scores high, and what is popular, which the scores do not know. Each figure is taken in a process of its
own, so that its peak memory is known; it includes the scores (float32 for all items) and the interpreter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Row, Table, in_own_process, peak_memory
from rankrl.demonstrations import Adjustment, Candidates

WANTED = 3  # items a dialogue
GRADIENT = 1e-4  # of its start
LINEAR = 1.5  # what a pass may cost a dialogue among many, over what it costs among few


def run(
    items: int = 7404, dialogues: Sequence[int] = (1000, 3000, 10_000), num_candidates: int = 1000
) -> Iterator[Table]:
    """One table for all items, one for candidates.

    Args:
        items: N.
        dialogues: D, few first.
        num_candidates: M; 0 means all items.
    """
    for number in (0, num_candidates):
        settings = dict(items=items, num_candidates=number)
        figures = {size: in_own_process("benchmarks.adjust", dialogues=size, **settings) for size in dialogues}
        each = [figures[size]["seconds"] / figures[size]["passes"] / size for size in dialogues]
        what = f"the best {number:,} of {items:,} items" if number else f"{items:,} items"
        rows = [
            Row("a pass, a dialogue: among the most over among the fewest", each[-1] / each[0], "x", at_most=LINEAR)
        ]
        for size, found in figures.items():
            rows += [
                Row(f"{size:,} dialogues", found["seconds"], "s"),
                Row(f"{size:,} dialogues, passes over the scores", found["passes"], ""),
                Row(
                    f"{size:,} dialogues, gradient at the end", 1e4 * found["gradient"], "1e-4", at_most=1e4 * GRADIENT
                ),
                Row(f"{size:,} dialogues, peak memory", found["MiB"], "MiB"),
            ]
        yield Table(f"Adjust on {what}, {WANTED} wanted items a dialogue", rows)


def measure(items: int, dialogues: int, num_candidates: int) -> dict[str, float]:
    """Seconds, passes, the gradient's share of its start, and peak memory of one fit."""
    scores, truth = problem(items, dialogues)
    given = candidates(scores, num_candidates) if num_candidates else scores
    del scores
    start = time.perf_counter()
    report = Adjustment.fit(given, truth, tolerance=GRADIENT).report
    seconds = time.perf_counter() - start
    assert report is not None
    gradient = report.gradient_end / report.gradient_start
    return {"seconds": seconds, "passes": report.num_passes, "gradient": gradient, "MiB": peak_memory()}


def problem(items: int, dialogues: int, dimension: int = 32) -> tuple[NDArray[np.float32], list[list[int]]]:
    """Scores `(dialogues, items)` of about the size that Remap gives, and what users want."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((items, dimension), dtype=np.float32)
    popularity = -0.9 * np.log(1 + rng.permutation(items))
    scores = np.empty((dialogues, items), dtype=np.float32)
    truth = []
    for row in range(dialogues):
        taste = rng.standard_normal(dimension, dtype=np.float32)
        scores[row] = 3 + 0.1 * (vectors @ taste)
        drawn = 4 * scores[row] + popularity + rng.gumbel(size=items)
        truth.append(np.argpartition(-drawn, WANTED)[:WANTED].tolist())
    return scores, truth


def candidates(scores: NDArray[np.float32], number: int) -> Candidates:
    """The best of each row."""
    best = np.sort(np.argpartition(-scores, number, axis=1)[:, :number], axis=1)
    return Candidates(best, np.take_along_axis(scores, best, axis=1).astype(np.float64), scores.shape[1])
