"""What the reward of a batch costs: 128 lists of 20 canonical lines against a catalogue of 7,404 items."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.measure import Row, Table, best_of
from benchmarks.synthetic import catalog_rows, completions
from catalog import Catalog
from rankrl.rewards import RankReward

TARGET_MS = 10
WANTED, SEEN = 3, 10  # items a prompt
POPULAR = 500  # items that lists, wishes and histories are drawn from, so that some wishes come true


def run(items: int = 7404, size: int = 128, group: int = 8, num_ranks: int = 20, runs: int = 10) -> Iterator[Table]:
    """Times `RankReward`, and the few lines of Python that it has to agree with.

    Args:
        items: of the catalogue.
        size: completions in a batch.
        group: completions of one prompt, which share what is wanted and seen.
        num_ranks: K.
        runs: batches; the truth of each is new to the reward.
    """
    rows = catalog_rows(items)
    catalog = Catalog((row["title"], row["year"]) for row in rows)
    reward = RankReward(catalog, num_ranks)

    def batches(*columns: str) -> Iterator[dict[str, Any]]:
        for seed in range(runs):
            texts = completions(catalog.lines[:POPULAR], size, num_ranks, seed=seed)
            named = {name: references(rows[:POPULAR], name, size, group, seed) for name in columns}
            yield {"completions": texts, **named}

    catalog.match(["builds the indices"])
    plain, _ = best_of(lambda batch: reward(**batch), batches("ground_truth"))
    full, rewards = best_of(lambda batch: reward(**batch), batches("ground_truth", "seen"))
    naive, expected = best_of(lambda batch: by_hand(**batch, num_ranks=num_ranks), batches("ground_truth", "seen"))
    np.testing.assert_array_equal(rewards, expected)
    yield Table(
        f"`RankReward` of {size} lists of {num_ranks} canonical lines, {items:,} items",
        [
            Row(f"{WANTED} wanted items a prompt", plain, "ms", at_most=TARGET_MS),
            Row(f"and {SEEN} seen ones", full, "ms", at_most=TARGET_MS),
            Row("plain Python on text, for lines without a flaw", naive, "ms"),
        ],
    )


def references(rows: list[dict[str, Any]], column: str, size: int, group: int, seed: int) -> list[list[dict[str, Any]]]:
    """The items that the users want or have seen, in the form that data sets hold; one list for each group."""
    random_source = random.Random(f"{column} {seed}")
    number = WANTED if column == "ground_truth" else SEEN
    prompts = [random_source.sample(rows, number) for _ in range(-(-size // group))]
    return [
        [{"id": None, "title": row["title"], "year": row["year"], "gain": 1.0} for row in prompts[i // group]]
        for i in range(size)
    ]


def by_hand(
    completions: list[str], ground_truth: list[list[dict]], seen: list[list[dict]], num_ranks: int
) -> list[list[float]]:
    """The same rewards for lists that name every item letter by letter: an item pays once, unless it was seen."""
    rewards = []
    for text, wanted_rows, seen_rows in zip(completions, ground_truth, seen, strict=True):
        paying = {line_of(row): row["gain"] for row in wanted_rows}
        for row in seen_rows:
            paying.pop(line_of(row), None)
        rewards.append([paying.pop(line, 0.0) for line in text.split("\n")[:num_ranks]])
    return rewards


def line_of(row: dict[str, Any]) -> str:
    """`Title (Year)`."""
    return f"{row['title']} ({row['year']})"
