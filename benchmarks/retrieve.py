"""What retrieval for augmented labels costs: the 50 nearest items of each dialogue, in catalogues small and large.

Vectors are random and of unit length, dense as a sentence encoder's. Each figure is taken in a process of its own, so
that its peak memory is known; it includes the vectors and the interpreter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Row, Table, in_own_process, peak_memory
from rankrl.labels import retrieve

LINEAR = 1.5  # what a dialogue may cost among many, over what it costs among few
PEAK_MIB = 2048  # a (10,000, 300,000) array of similarities alone would take 11,400


def run(
    sizes: Sequence[int] = (7404, 300_000),
    dialogues: Sequence[int] = (1000, 10_000),
    number: int = 50,
    dimension: int = 384,
) -> Iterator[Table]:
    """One table for each size of the catalogue.

    Args:
        sizes: N.
        dialogues: D, few first.
        number: M, items retrieved for each dialogue.
        dimension: d, of the vectors.
    """
    check(min(sizes), number, dimension)
    for items in sizes:
        settings = dict(items=items, number=number, dimension=dimension)
        figures = {size: in_own_process("benchmarks.retrieve", dialogues=size, **settings) for size in dialogues}
        few, many = dialogues[0], dialogues[-1]
        cost = (figures[many]["seconds"] / many) / (figures[few]["seconds"] / few)
        yield Table(
            f"The {number} nearest of {items:,} items, {dimension} dimensions",
            [
                *(Row(f"{size:,} dialogues", figures[size]["seconds"], "s") for size in dialogues),
                Row("a dialogue among the most, over one among the fewest", cost, "x", at_most=LINEAR),
                Row(f"{many:,} dialogues, peak memory", figures[many]["MiB"], "MiB", at_most=PEAK_MIB),
            ],
        )


def measure(items: int, dialogues: int, number: int, dimension: int) -> dict[str, float]:
    """Seconds and peak memory of one retrieval."""
    queries, keys = vectors(dialogues, dimension, seed=0), vectors(items, dimension, seed=1)
    start = time.perf_counter()
    retrieve(queries, keys, number)
    return {"seconds": time.perf_counter() - start, "MiB": peak_memory()}


def vectors(rows: int, dimension: int, seed: int) -> NDArray[np.float32]:
    """Random unit vectors, `(rows, dimension)`."""
    drawn = np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def check(items: int, number: int, dimension: int, sample: int = 20) -> None:
    """Blocks have to find what sorting finds."""
    queries, keys = vectors(sample, dimension, seed=0), vectors(items, dimension, seed=1)
    sorted_ids = np.argsort(-(queries @ keys.T), axis=1, kind="stable")[:, :number]
    np.testing.assert_array_equal(retrieve(queries, keys, number, block=7).items, sorted_ids)
