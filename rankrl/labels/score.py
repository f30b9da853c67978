"""Score: how well each retrieved item suits its dialogue, from 0 (unsuitable) to 4 (exactly right)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rankrl.labels.retrieval import Retrieved
from rankrl.labels.scores_file import HIGHEST, LOWEST
from rankrl.labels.unfinished import score_resumably
from rankrl.shards import Shard
from rankrl.teachers import JudgeTemplate, Teacher, rate
from rankrl.teachers.rating import LABEL_SCALE
from rankrl.teachers.rating_statistics import RatingStatistics

if TYPE_CHECKING:
    from rankrl.labels.local import LocalScorer


@dataclass(frozen=True, eq=False)
class Scored:
    """Retrieved items with what somebody says of them.

    Attributes:
        items: `(D, M)` int64 item ids, -1 pads.
        scores: `(D, M)` float64 in [0, 4], NaN for padding and for what was not rated.
        source: who scored.
        reasons: per dialogue M texts, `""` without one; empty where nobody gave reasons.
        statistics: how far a judge can be trusted, where one was asked.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float64]
    source: str
    reasons: list[list[str]] = field(default_factory=list)
    statistics: RatingStatistics | None = None

    def __post_init__(self) -> None:
        if self.items.shape != self.scores.shape or self.items.ndim != 2:
            raise ValueError(f"items {self.items.shape} and scores {self.scores.shape} must have one shape, (D, M)")
        given = self.scores[~np.isnan(self.scores)]
        if given.size and not LOWEST <= given.min() <= given.max() <= HIGHEST:
            raise ValueError(
                f"scores run from {given.min():g} to {given.max():g}; expected 0 (unsuitable) to 4 (exactly right), "
                "NaN for what was not rated"
            )
        if not np.isnan(self.scores[self.items < 0]).all():
            raise ValueError("a score belongs to no item (-1); expected NaN there")


def teacher_scores(
    teacher: Teacher,
    dialogues: Sequence[Sequence[Mapping[str, str]]],
    items: NDArray[np.int64],
    lines: Sequence[str],
    *,
    template: JudgeTemplate,
    num_orders: int = 2,
    window: int = 50,
    seed: int = 0,
    reasons: bool = True,
) -> Scored:
    """Let a teacher rate the items of each dialogue, in shuffled orders, with a short reason.

    Args:
        teacher: the judge.
        dialogues: D dialogues, each a list of `{"role", "content"}`.
        items: `(D, M)` item ids, -1 pads.
        lines: N lines of the catalogue.
        template: how to ask.
        num_orders, window, seed, reasons: see `rankrl.teachers.rate`.

    Raises:
        ValueError: if the numbers of dialogues and rows differ.
        TeacherError: if the teacher cannot go on.

    Source: arXiv 2508.05657, data synthesis: scores of 0-4 by a large model.
    """
    ratings = rate(
        teacher,
        dialogues,
        candidate_lines(items, lines),
        template=template,
        scale=LABEL_SCALE,
        num_orders=num_orders,
        window=window,
        seed=seed,
        reasons=reasons,
    )
    why = [
        [next(given) if item >= 0 else "" for item in row]
        for row, given in zip(items.tolist(), map(iter, ratings.reasons), strict=True)
    ]
    return Scored(items, padded(items, ratings.values), teacher.name, why, ratings.statistics)


def local_scores(
    scorer: LocalScorer,
    dialogues: Sequence[Sequence[Mapping[str, str]]],
    items: NDArray[np.int64],
    texts: Sequence[str],
    *,
    keep: str | Path,
    shard: Shard | None = None,
) -> Scored:
    """Let a small model score the items of each dialogue.

    Args:
        scorer: it, tuned on a teacher's scores.
        dialogues: D dialogues, each a list of `{"role", "content"}`.
        items: `(D, M)` item ids, -1 pads.
        texts: N texts of the items, in the form that the scorer was tuned on.
        keep: file of scores that are not lost if the run is stopped (`score_resumably`).
        shard: whose dialogues these are, if the others are scored elsewhere.

    Raises:
        ValueError: if the numbers of dialogues and rows differ.

    Source: arXiv 2508.05657, data synthesis: Gemma2-9B tuned on GPT-4's scores.
    """
    scores = score_resumably(scorer, dialogues, candidate_lines(items, texts), keep, shard=shard)
    return Scored(items, padded(items, scores), scorer.name)


def encoder_scores(retrieved: Retrieved, source: str) -> Scored:
    """Scores from similarity alone, for those without a teacher.

    Cosines of one encoder mean nothing beside those of another, so a dialogue is its own measure: 4 for its most
    similar item, 0 for an item that is as similar as items are to it on average, evenly in between.

    Args:
        retrieved: the items with their similarities.
        source: name of the encoder.
    """
    similarities, ordinary = retrieved.similarities.astype(np.float64), retrieved.ordinary[:, None]
    above = (similarities - ordinary) / np.maximum(similarities[:, :1] - ordinary, np.finfo(np.float32).tiny)
    scores = HIGHEST * np.clip(above, 0.0, 1.0)
    return Scored(retrieved.items, np.where(retrieved.items >= 0, scores, np.nan), source)


def candidate_lines(items: NDArray[np.int64], lines: Sequence[str]) -> list[list[str]]:
    """Per dialogue the lines (or other texts) of its items, without the padding."""
    return [[lines[item] for item in row if item >= 0] for row in items.tolist()]


def padded(items: NDArray[np.int64], values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """`(D, M)`: one value per item in the order of its row, NaN beside -1.

    Raises:
        ValueError: if a row has another number of values than of items.
    """
    scores = np.full(items.shape, np.nan)
    if len(values) != len(items) or any(len(v) != n for v, n in zip(values, (items >= 0).sum(axis=1), strict=True)):
        raise ValueError(f"{len(values)} rows of scores for {len(items)} dialogues; give one score for every item")
    scores[items >= 0] = np.concatenate([*values, np.empty(0)])
    return scores
