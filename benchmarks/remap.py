"""What Remap costs: lists of 20 titles against catalogues small and large, by the number of dialogues.

Vectors are random and of unit length. Each figure is taken in a process of its own, so that its peak memory is known;
it includes the vectors and the interpreter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Row, Table, in_own_process, peak_memory
from rankrl.demonstrations import remap_candidates, remap_scores

RANKS = 20
LINEAR = 1.5  # what a dialogue may cost among many, over what it costs among few
PEAK_MIB = 4096  # a (10,000, 300,000) array of scores alone would take 22,900


class Problem(NamedTuple):
    """The arguments of `remap_candidates`."""

    raw_lists: NDArray[np.int64]
    teacher_vectors: NDArray[np.float32]
    same_item: NDArray[np.int64]
    item_vectors: NDArray[np.float32]
    context_vectors: NDArray[np.float32]


def run(
    sizes: Sequence[int] = (7404, 300_000),
    dialogues: Sequence[int] = (1000, 3000, 10_000),
    titles: int = 20_000,
    num_candidates: int = 1000,
    dimension: int = 384,
) -> Iterator[Table]:
    """One table for each size of the catalogue.

    Args:
        sizes: N.
        dialogues: D, few first.
        titles: C, what the teacher names.
        num_candidates: M.
        dimension: d, of the vectors.
    """
    check(problem(min(sizes), min(dialogues), titles, dimension))
    for items in sizes:
        settings = dict(items=items, titles=titles, num_candidates=num_candidates, dimension=dimension)
        figures = {size: in_own_process("benchmarks.remap", dialogues=size, **settings) for size in dialogues}
        each = [figures[size]["seconds"] / size for size in dialogues]
        yield Table(
            f"Remap against {items:,} items, lists of {RANKS} of {titles:,} titles, the best {num_candidates:,} kept",
            [
                *(Row(f"{size:,} dialogues", figures[size]["seconds"], "s") for size in dialogues),
                Row("a dialogue among the most, over one among the fewest", each[-1] / each[0], "x", at_most=LINEAR),
                *(Row(f"{size:,} dialogues, peak memory", figures[size]["MiB"], "MiB") for size in dialogues[:-1]),
                Row(
                    f"{dialogues[-1]:,} dialogues, peak memory", figures[dialogues[-1]]["MiB"], "MiB", at_most=PEAK_MIB
                ),
            ],
        )


def measure(items: int, dialogues: int, titles: int, num_candidates: int, dimension: int) -> dict[str, float]:
    """Seconds and peak memory of one Remap."""
    arguments = problem(items, dialogues, titles, dimension)
    start = time.perf_counter()
    remap_candidates(*arguments, num_candidates=num_candidates)
    return {"seconds": time.perf_counter() - start, "MiB": peak_memory()}


def problem(items: int, dialogues: int, titles: int, dimension: int) -> Problem:
    """Random lists and vectors; half of the titles are items of the catalogue, at most."""
    rng = np.random.default_rng(0)
    same: NDArray[np.int64] = np.full(titles, -1)
    known = min(items, titles // 2)
    same[:known] = rng.permutation(items)[:known]
    vectors: list[Any] = []
    for rows in (titles, items, dialogues):
        drawn = rng.standard_normal((rows, dimension), dtype=np.float32)
        vectors.append(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))
    return Problem(rng.integers(0, titles, (dialogues, RANKS)), vectors[0], same, vectors[1], vectors[2])


def check(arguments: Problem, sample: int = 100) -> None:
    """The array form and the candidate form have to agree."""
    lists, titles, same, items, contexts = arguments
    lists, contexts = lists[:sample], contexts[:sample]
    exact = remap_scores(lists, titles.astype(np.float64) @ items.T, same, contexts.astype(np.float64) @ items.T)
    found = remap_candidates(lists, titles, same, items, contexts, num_candidates=len(items))
    np.testing.assert_allclose(found.scores, exact, rtol=0, atol=1e-6)
