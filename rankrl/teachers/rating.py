"""Candidates rated by a teacher, in several shuffled orders, because judges favour places in a list.

The paper rates all candidates once, in one call and one order (arXiv 2510.20150, appendix A: Reflect). Here every
candidate is shown at several places, its ratings are averaged, and how much the place mattered is reported.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankrl.teachers.prompts import JudgeTemplate, Scale
from rankrl.teachers.protocol import Messages, Teacher
from rankrl.teachers.rating_statistics import RatingStatistics, rating_statistics
from rankrl.teachers.ratings_text import parse_ratings

REFLECT_SCALE: Scale = {2: "great", 1: "good", 0: "neither good nor bad", -1: "weak", -2: "bad"}
LABEL_SCALE: Scale = {4: "exactly right", 3: "very suitable", 2: "suitable", 1: "hardly suitable", 0: "unsuitable"}

Dialogue = Sequence[Mapping[str, str]]


class Showing(NamedTuple):
    """One request to the judge.

    Attributes:
        dialogue: its index.
        order: which of the `num_orders` orders it belongs to.
        places: indices of the dialogue's candidates, as they are shown.
    """

    dialogue: int
    order: int
    places: tuple[int, ...]


@dataclass(frozen=True)
class Ratings:
    """What the judge said.

    Attributes:
        values: per dialogue `(n,)` float64, aligned with its n candidates: the mean over the orders in which a
            candidate was rated, NaN where it never was.
        reasons: per dialogue n texts, the first reason given for each candidate; `""` without one.
        statistics: how far the judge can be trusted.
    """

    values: list[NDArray[np.float64]]
    reasons: list[list[str]]
    statistics: RatingStatistics


def rate(
    teacher: Teacher,
    dialogues: Sequence[Dialogue],
    candidates: Sequence[Sequence[str]],
    *,
    template: JudgeTemplate,
    scale: Scale = REFLECT_SCALE,
    num_orders: int = 2,
    window: int = 100,
    seed: int = 0,
    reasons: bool = False,
) -> Ratings:
    """Let a teacher rate the candidates of each dialogue.

    Args:
        teacher: the judge.
        dialogues: D dialogues, each a list of `{"role", "content"}`.
        candidates: per dialogue the lines to be rated, such as `Heat (1995)`; may be empty.
        template: how to ask.
        scale: the allowed levels, with their names.
        num_orders: in how many orders each candidate is shown; see `plan_showings`.
        window: most candidates in one request.
        seed: of the orders. Same seed and input, same requests: they come from the cache.
        reasons: ask for a short reason as well.

    Returns:
        The ratings. An answer counts line by line (`parse_ratings`); what counts for nothing is in the statistics.

    Raises:
        ValueError: if dialogues and candidates do not match, a candidate is blank, has a line break or stands twice.
        TeacherError: if the teacher cannot go on.

    Example:
        >>> ratings = rate(teacher, [dialogue], [["Heat (1995)", "Up (2009)"]], template=JudgeTemplate.load("movie"))
        >>> ratings.values[0]
        array([ 1.5, -2. ])
    """
    showings = plan_showings(candidates, num_orders=num_orders, window=window, seed=seed)
    requests = judge_requests(dialogues, candidates, showings, template=template, scale=scale, reasons=reasons)
    answers = teacher.ask(requests)
    table = [np.full((num_orders, len(lines)), np.nan) for lines in candidates]
    why = [[""] * len(lines) for lines in candidates]
    ignored: dict[str, int] = {}
    for showing, answer in zip(showings, answers, strict=True):
        shown = [candidates[showing.dialogue][place] for place in showing.places]
        parsed = parse_ratings(answer.text or "", shown, scale)
        for reason, lines in parsed.ignored.items():
            ignored[reason] = ignored.get(reason, 0) + lines
        for place, level, reason in zip(showing.places, parsed.levels, parsed.reasons, strict=True):
            if level is not None:
                table[showing.dialogue][showing.order, place] = level
                why[showing.dialogue][place] = why[showing.dialogue][place] or reason
    statistics = rating_statistics(
        table,
        [(showing.dialogue, showing.order, showing.places) for showing in showings],
        scale,
        ignored=ignored,
        silent=sum(answer.text is None for answer in answers),
    )
    return Ratings([_mean_over_orders(one) for one in table], why, statistics)


def plan_showings(
    candidates: Sequence[Sequence[str]], *, num_orders: int = 2, window: int = 100, seed: int = 0
) -> list[Showing]:
    """Who is shown with whom, and where.

    Orders come in pairs. The first of a pair shuffles all candidates and splits them into windows of nearly equal size;
    the second shows the same windows reversed. So with an even `num_orders` every candidate's places average to the
    middle of its window, and a preference for early or late places cancels out of the mean.

    The shuffle depends on seed and candidates alone, not on a dialogue's number: to add or drop dialogues changes no
    request.

    Args:
        candidates: per dialogue its lines.
        num_orders: how many orders.
        window: most candidates in one request.
        seed: of the shuffles.

    Returns:
        The requests to make, by dialogue, then order, then window.

    Raises:
        ValueError: if `num_orders` or `window` is below 1, or candidates are unusable.
    """
    if num_orders < 1 or window < 1:
        raise ValueError(f"num_orders is {num_orders} and window is {window}; both are at least 1")
    showings = []
    for dialogue, lines in enumerate(candidates):
        _check_candidates(dialogue, lines)
        for order in range(num_orders):
            for places in _windows(lines, order // 2, window, seed):
                showings.append(Showing(dialogue, order, places[::-1] if order % 2 else places))
    return showings


def judge_requests(
    dialogues: Sequence[Dialogue],
    candidates: Sequence[Sequence[str]],
    showings: Sequence[Showing],
    *,
    template: JudgeTemplate,
    scale: Scale = REFLECT_SCALE,
    reasons: bool = False,
) -> list[Messages]:
    """The requests of planned showings, as `rate` sends them: what to estimate in a dry run.

    Raises:
        ValueError: if there are not as many dialogues as lists of candidates.
    """
    if len(dialogues) != len(candidates):
        raise ValueError(
            f"{len(dialogues)} dialogues but {len(candidates)} lists of candidates; give one list for each"
        )
    return [
        template.messages(
            dialogues[dialogue], [candidates[dialogue][place] for place in places], scale, reasons=reasons
        )
        for dialogue, _, places in showings
    ]


def _windows(lines: Sequence[str], pair: int, window: int, seed: int) -> Iterator[tuple[int, ...]]:
    places = list(range(len(lines)))
    random.Random(json.dumps([seed, pair, list(lines)])).shuffle(places)
    number = -(-len(places) // window)
    for part in range(number):
        yield tuple(places[part * len(places) // number : (part + 1) * len(places) // number])


def _check_candidates(dialogue: int, lines: Sequence[str]) -> None:
    for place, line in enumerate(lines):
        if not line.strip() or "\n" in line:
            raise ValueError(
                f"candidate {place} of dialogue {dialogue} is {line!r}; expected one line of text: use catalog.lines"
            )
    if len(set(lines)) < len(lines):
        twice = next(line for place, line in enumerate(lines) if line in lines[:place])
        raise ValueError(f"dialogue {dialogue} has the candidate {twice!r} twice; give every candidate once")


def _mean_over_orders(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """(orders, n) -> (n,): the mean of what is there, NaN where nothing is."""
    rated = ~np.isnan(table)
    counts = rated.sum(axis=0)
    return np.where(counts > 0, np.where(rated, table, 0.0).sum(axis=0) / np.maximum(counts, 1), np.nan)
