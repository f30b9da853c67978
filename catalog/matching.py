"""Fuzzy look-up of misspelt titles, one batched `cdist` call for all of them.

The thresholds come from the false and missed matches in `docs/results/match_thresholds.md`, made by
`benchmarks/match_thresholds.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rapidfuzz import fuzz, process

from catalog.lookup import TitleIndex
from catalog.titles import numbers, title_key

MARGIN = 4.0  # how far the best title must be ahead of the next one
_QUERIES_PER_CALL = 128  # few enough for their lengths to be alike; 36 MiB of scores with 300,000 items


class Candidate(NamedTuple):
    """The best title for a query.

    Args:
        item_id: its item, -1 if there is none.
        score: `fuzz.ratio` of the two keys, 0 to 100.
        runner_up: the best score of another title that the query's year does not rule out; 0 if none reached the floor.
    """

    item_id: int
    score: float
    runner_up: float


NO_CANDIDATE = Candidate(-1, 0.0, 0.0)


def required_score(length: int, has_year: bool, min_score: float) -> float:
    """The score a title needs. One letter more or less makes a short title another one, unless the year vouches for it.

    Args:
        length: letters and digits of the query's key.
        has_year: whether the query gives a year, which the item then has to share.
        min_score: the score asked for; enough from 10 letters on.

    Returns:
        The least `fuzz.ratio`; above 100 where nothing but an exact match will do.
    """
    if length >= 10:
        return min_score
    if length < 6 or not has_year:
        return 101.0
    return max(min_score, 90.0)


class FuzzyIndex:
    """Finds the titles nearest to misspelt ones.

    Args:
        titles: the exact index, whose keys are compared and which decides between same-titled items.
    """

    def __init__(self, titles: TitleIndex) -> None:
        self._titles = titles
        self._keys = sorted(titles.groups, key=len)
        self._lengths = np.array([len(key) for key in self._keys])
        self._numbers = [numbers(titles.some_title(key)) for key in self._keys]

    def match(
        self, queries: Sequence[tuple[str, int | None]], min_score: float, year_tolerance: int = 0
    ) -> list[Candidate]:
        """The item meant by each misspelt `(title, year)`, or `NO_CANDIDATE`.

        Args:
            queries: titles with their years, `None` where unknown.
            min_score: the least `fuzz.ratio` of normalised keys; short titles need more (`required_score`).
            year_tolerance: as in `Catalog.find`.

        Returns:
            One candidate per query.
        """
        if not 1 < min_score <= 100:
            raise ValueError(f"min_score is {min_score}; expected a fuzz.ratio between 1 and 100, such as 90")
        candidates = self.candidates(queries, min_score - MARGIN, year_tolerance)
        return [
            candidate
            if candidate.score >= required_score(len(title_key(title)), year is not None, min_score)
            and candidate.score - candidate.runner_up >= MARGIN
            else NO_CANDIDATE
            for (title, year), candidate in zip(queries, candidates, strict=True)
        ]

    def candidates(
        self, queries: Sequence[tuple[str, int | None]], floor: float, year_tolerance: int = 0
    ) -> list[Candidate]:
        """The best title for each query with its runner-up, before any threshold but the floor.

        A query whose key is in the catalogue is spelt right, so it gets nothing here: its year kept it from being
        found.

        Args:
            queries: titles with their years.
            floor: scores below it are taken as 0.
            year_tolerance: as in `Catalog.find`.

        Returns:
            One candidate per query.
        """
        keys = [title_key(title) for title, _ in queries]
        misspelt = [position for position, key in enumerate(keys) if key and key not in self._titles.groups]
        misspelt.sort(key=lambda position: len(keys[position]))
        found = [NO_CANDIDATE] * len(queries)
        for start in range(0, len(misspelt), _QUERIES_PER_CALL):
            chunk = misspelt[start : start + _QUERIES_PER_CALL]
            near_keys = self._near_keys([keys[position] for position in chunk], floor)
            for position, near in zip(chunk, near_keys, strict=True):
                found[position] = self._best(*queries[position], near, year_tolerance)
        return found

    def _near_keys(self, queries: Sequence[str], floor: float) -> list[list[tuple[float, int]]]:
        """For each query, ascending in length: (score, key number) of the keys at or above the floor, best first.

        Keys much shorter or longer than every query cannot reach the floor (texts of lengths a and b have a ratio of at
        most 200 * min(a, b) / (a + b)), so they are not compared.
        """
        stretch = (200 - floor) / max(floor, 1.0)
        first = int(np.searchsorted(self._lengths, len(queries[0]) / stretch - 1))
        last = int(np.searchsorted(self._lengths, len(queries[-1]) * stretch + 1))
        choices = self._keys[first:last]
        near: list[list[tuple[float, int]]] = [[] for _ in queries]
        if choices:
            # Rounded: this only tells which pairs to look at.
            scores = process.cdist(queries, choices, scorer=fuzz.ratio, score_cutoff=floor, dtype=np.uint8, workers=-1)
            for row, column in zip(*(axis.tolist() for axis in np.nonzero(scores != 0)), strict=True):
                near[row].append((fuzz.ratio(queries[row], choices[column]), first + column))
        for scored in near:
            scored.sort(key=lambda pair: -pair[0])
        return near

    def _best(self, title: str, year: int | None, near: Sequence[tuple[float, int]], year_tolerance: int) -> Candidate:
        """The best-scoring title whose year fits, unless a title of another year is nearer still."""
        wanted = numbers(title)
        best = NO_CANDIDATE
        ruled_out = 0.0
        for score, key_number in near:
            if self._numbers[key_number] != wanted:
                continue
            group = self._titles.groups[self._keys[key_number]]
            item_id = self._titles.decide(group, title, year, year_tolerance)
            if best.item_id >= 0:
                if item_id >= 0 and item_id != best.item_id:
                    return best._replace(runner_up=score)
            elif item_id < 0:
                ruled_out = max(ruled_out, score)
            elif ruled_out > score:
                return NO_CANDIDATE
            else:
                best = Candidate(item_id, score, 0.0)
        return best
