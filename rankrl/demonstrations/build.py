"""Stage 1 as a whole: a teacher's raw lists become the catalogue's, step by step (arXiv 2510.20150, appendix A)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rankrl.demonstrations.adjust import Adjustment
from rankrl.demonstrations.candidates import Candidates, top_items, top_overlap
from rankrl.demonstrations.reflect import reflect_scores
from rankrl.demonstrations.remap import Vectors, remap_candidates
from rankrl.demonstrations.replies import RawLists
from rankrl.teachers import Ratings

logger = logging.getLogger(__name__)

OVERLAP_SAMPLE = 100  # dialogues that are scored on all items too, to see what fewer candidates cost
STEPS = ("remap", "reflect", "adjust")
Judge = Callable[[NDArray[np.int64]], Ratings]
"""`(D, N_r)` item ids, the candidates of each dialogue -> their ratings."""


@dataclass(frozen=True)
class BuildSettings:
    """The settings of the steps; the defaults are the paper's.

    Args:
        steps: what is done, in this order: `remap`, then any of `reflect` and `adjust`; none leaves the raw lists.
        num_ranks: K, length of a demonstration.
        context_weight: λ of Remap.
        num_candidates: M, items scored for each dialogue.
        num_rated: N_r, items that the judge rates in Reflect.
        rating_weight: γ of Reflect.
        regularization: L2 weight of Adjust.
        adjust_on: fit Adjust on the first so many dialogues; None for all.
        folds: above 1, every dialogue is adjusted by what the other folds' truth says (for small data, and for honest
            scores); otherwise all are adjusted by one fit.

    Raises:
        ValueError: for steps in another order, a number out of range, or settings that contradict each other.
    """

    steps: tuple[str, ...] = STEPS
    num_ranks: int = 20
    context_weight: float = 1.0
    num_candidates: int = 1000
    num_rated: int = 100
    rating_weight: float = 0.5
    regularization: float = 0.01
    adjust_on: int | None = None
    folds: int = 0

    def __post_init__(self) -> None:
        in_order = [step for step in STEPS if step in self.steps]
        if list(self.steps) != in_order or (self.steps and "remap" not in self.steps):
            raise ValueError(f"steps are {list(self.steps)}; expected 'remap', then any of 'reflect' and 'adjust'")
        if self.folds > 1 and self.adjust_on is not None:
            raise ValueError("folds use the truth of all dialogues: give either folds or adjust_on")
        self._check_ranges()

    def _check_ranges(self) -> None:
        weight = "a finite number, 0 (it counts nothing) or more"
        at_least_listed = f"{self.num_ranks} (num_ranks) or more"
        ranges = {
            "num_ranks": (self.num_ranks >= 1, "at least 1"),
            "context_weight": (0 <= self.context_weight < math.inf, weight),
            "num_candidates": (not self.steps or self.num_candidates >= self.num_ranks, at_least_listed),
            "num_rated": (self.num_rated >= 1, "at least 1; to leave Reflect out, take it from the steps"),
            "rating_weight": (0 <= self.rating_weight < math.inf, weight),
            "regularization": (0 < self.regularization < math.inf, "above 0, or there may be no best adjustment"),
            "adjust_on": (self.adjust_on is None or self.adjust_on >= 1, "at least 1 dialogue, or null for all"),
            "folds": (self.folds >= 0, "2 or more, or 0 for one fit"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {expected}")


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """The lists after every step, and what the steps said of themselves.

    Attributes:
        lists: step -> `(D, K)` item ids. `raw` is the teacher's list as the catalogue alone resolves it, -1 for the
            rest; the others hold no -1, no item twice and, unless that was allowed, none that was mentioned.
        scores: the final scores of each dialogue's candidates; None without any step.
        ratings: what the judge said, if it was asked.
        adjustment: what was learned from the truth, if it was; with folds, that of the last one.
        reflected: the scores that Adjust was given.
        overlap: how much of the lists would be the same if all N items had been candidates, measured on the first
            dialogues; None where they were, and with folds, whose fits are not kept.
    """

    lists: Mapping[str, NDArray[np.int64]]
    scores: Candidates | None = None
    ratings: Ratings | None = None
    adjustment: Adjustment | None = None
    reflected: Candidates | None = field(default=None, repr=False)
    overlap: float | None = None

    @property
    def final(self) -> NDArray[np.int64]:
        """`(D, K)` item ids, the demonstrations."""
        return list(self.lists.values())[-1]


def build_demonstrations(
    raw: RawLists,
    title_vectors: Vectors,
    item_vectors: Vectors,
    dialogue_vectors: Vectors,
    settings: BuildSettings,
    *,
    seen: Sequence[Collection[int]] | None = None,
    judge: Judge | None = None,
    truth: Sequence[Mapping[int, float]] | None = None,
    groups: Sequence[str] | None = None,
    adjustment: Adjustment | None = None,
    remapped: Candidates | None = None,
) -> Demonstrations:
    """Take a teacher's lists through Remap, Reflect and Adjust.

    Args:
        raw: the teacher's D lists of C titles.
        title_vectors: `(C, d)` unit vectors.
        item_vectors: `(N, d)`.
        dialogue_vectors: `(D, d)`.
        settings: which steps, and how.
        seen: per dialogue the items that must not be listed; None to allow all.
        judge: rates candidates; needed by Reflect.
        truth: per dialogue the wanted items; needed by Adjust.
        groups: with folds, what must stay together: rows of one dialogue.
        adjustment: an earlier fit to use instead of fitting one.
        remapped: what `remap_dialogues` gave before, instead of doing it here.

    Returns:
        The lists after each step.

    Raises:
        ValueError: if a step lacks what it needs, or a dialogue has too few candidates.
    """
    check_inputs(settings, judge=judge is not None, truth=truth is not None, adjustment=adjustment is not None)
    num_ranks = settings.num_ranks
    lists = {"raw": raw.resolved(num_ranks)}
    if not settings.steps:
        return Demonstrations(lists)

    vectors = (title_vectors, item_vectors, dialogue_vectors)
    scores = remapped if remapped is not None else remap_dialogues(raw, *vectors, settings, slice(None))
    lists["remap"] = top_items(scores, num_ranks, seen)
    ratings = rated = None
    if "reflect" in settings.steps and judge is not None:
        rated = rated_items(scores, settings.num_rated, seen)
        ratings = judge(rated)
        scores = reflect_scores(scores, np.stack(ratings.values), settings.rating_weight, items=rated)
        lists["reflect"] = top_items(scores, num_ranks, seen)
    reflected = scores
    if "adjust" in settings.steps:
        if adjustment is not None:
            scores = adjustment.apply(scores)
        else:
            assert truth is not None  # check_inputs
            scores, adjustment = _adjust(scores, truth, settings, groups)
        lists["adjust"] = top_items(scores, num_ranks, seen)
    overlap = None
    if settings.num_candidates < scores.num_items and settings.folds < 2:
        sample = slice(OVERLAP_SAMPLE)
        exact = _of_all_items(raw, vectors, settings, sample, rated, ratings, adjustment)
        overlap = top_overlap(scores[sample], exact, num_ranks, None if seen is None else seen[sample])
    return Demonstrations(lists, scores, ratings, adjustment, reflected, overlap)


def _of_all_items(
    raw: RawLists,
    vectors: tuple[Vectors, Vectors, Vectors],
    settings: BuildSettings,
    sample: slice,
    rated: NDArray[np.int64] | None,
    ratings: Ratings | None,
    adjustment: Adjustment | None,
) -> Candidates:
    """The scores of some dialogues after the same steps, with all N items as candidates."""
    num_items = len(vectors[1])
    scores = remap_dialogues(raw, *vectors, replace(settings, num_candidates=num_items), sample)
    if ratings is not None and rated is not None:
        scores = reflect_scores(scores, np.stack(ratings.values[sample]), settings.rating_weight, items=rated[sample])
    return scores if adjustment is None else adjustment.apply(scores)


def check_inputs(settings: BuildSettings, *, judge: bool, truth: bool, adjustment: bool) -> None:
    """Is there what the steps need? To be asked before a teacher is.

    Raises:
        ValueError: if a step lacks something, or folds are to be fitted although an adjustment is given.
    """
    if "reflect" in settings.steps and not judge:
        raise ValueError("Reflect needs a judge; name a teacher, or leave it out: steps remap,adjust")
    if "adjust" in settings.steps and not (truth or adjustment):
        raise ValueError("Adjust needs the truth, or an earlier adjustment; or leave it out: steps remap,reflect")
    if settings.folds > 1 and adjustment:
        raise ValueError("an earlier adjustment is used as it is, and folds fit new ones: give either of them")


def check_data(
    settings: BuildSettings,
    num_items: int,
    num_titles: int,
    *,
    seen: Sequence[Collection[int]] | None,
    truth: Sequence[Mapping[int, float]] | None,
    groups: Sequence[str] | None = None,
) -> None:
    """Do the settings suit the catalogue and the dialogues? To be asked before a teacher is.

    Args:
        settings: which steps, and how.
        num_items: N.
        num_titles: R, titles in a raw list, at most.
        seen, groups: as in `build_demonstrations`.
        truth: what Adjust is to be fitted on; None where it is not fitted.

    Raises:
        ValueError: if a dialogue may have too few items to list, or a fit has no truth to learn from.
    """
    if not settings.steps:
        return
    _check_catalog(settings, num_items, num_titles, seen or [])
    if "adjust" not in settings.steps or truth is None:
        return
    if settings.folds > 1:
        _check_folds(settings.folds, truth, groups)
    elif not any(truth[: settings.adjust_on]):
        raise ValueError(
            f"adjust_on is {settings.adjust_on}, but none of the first {settings.adjust_on} dialogues has a known "
            "truth to learn from: raise it, or leave Adjust out"
        )


def _check_catalog(settings: BuildSettings, num_items: int, num_titles: int, seen: Sequence[Collection[int]]) -> None:
    num_ranks, num_candidates = settings.num_ranks, min(settings.num_candidates, num_items)
    if num_ranks > num_items:
        raise ValueError(
            f"num_ranks is {num_ranks}, but the catalogue holds {num_items} items: lower it, or look whether it is the "
            "whole catalogue"
        )
    most_seen, row = max(((len(set(items) - {-1}), -row) for row, items in enumerate(seen)), default=(0, 0))
    if num_items - most_seen < num_ranks:
        raise ValueError(
            f"dialogue {-row} mentions {most_seen} of the catalogue's {num_items} items, which leaves "
            f"{num_items - most_seen} to list, but num_ranks is {num_ranks}: lower it, or list mentioned items too "
            "(keep_seen)"
        )
    if num_candidates < (needed := max(num_ranks + most_seen, min(num_titles, num_items))):
        raise ValueError(
            f"num_candidates is {settings.num_candidates}; expected at least {needed}: the {num_titles} titles of a "
            f"raw list are among them, and so may be the {most_seen} items that dialogue {-row} mentions, beside the "
            f"{num_ranks} to list (num_ranks). Raise it; that asks the teacher nothing more"
        )


def _check_folds(folds: int, truth: Sequence[Mapping[int, float]], groups: Sequence[str] | None) -> None:
    fold_of = _folds(groups or [str(row) for row in range(len(truth))], folds)
    if len({fold for fold, wanted in zip(fold_of.tolist(), truth, strict=True) if wanted}) < 2:
        raise ValueError(
            f"folds is {folds}, but the dialogues with a known truth are all in one of them, which then has nothing to "
            "learn from: change folds, or set it to 0 for one fit"
        )


def remap_dialogues(
    raw: RawLists,
    title_vectors: Vectors,
    item_vectors: Vectors,
    dialogue_vectors: Vectors,
    settings: BuildSettings,
    dialogues: slice | Sequence[int],
) -> Candidates:
    """Remap's scores of some of the dialogues; arguments as in `build_demonstrations`."""
    return remap_candidates(
        raw.ranks[dialogues],
        title_vectors,
        raw.same_item,
        item_vectors,
        dialogue_vectors[dialogues],
        num_candidates=settings.num_candidates,
        weight=settings.context_weight,
        allow_empty=bool((raw.ranks >= 0).any()),
    )


def rated_items(
    scores: Candidates, num_rated: int, seen: Sequence[Collection[int]] | None, dialogues: slice = slice(None)
) -> NDArray[np.int64]:
    """What the judge is to rate.

    Args:
        scores: candidates of some of the dialogues.
        num_rated: N_r.
        seen: per dialogue, of all of them, what must not be listed; None to allow all.
        dialogues: whose candidates these are.

    Returns:
        The best N_r items of each dialogue that may be listed, or as many as all dialogues are sure to have. How many
        does not depend on which dialogues are looked at: shards ask what one process would ask.
    """
    if seen is None:
        return top_items(scores, min(num_rated, scores.items.shape[1]))
    most_seen = max((len(set(row) - {-1}) for row in seen), default=0)
    return top_items(scores, min(num_rated, max(1, scores.items.shape[1] - most_seen)), seen[dialogues])


def _adjust(
    scores: Candidates, truth: Sequence[Mapping[int, float]], settings: BuildSettings, groups: Sequence[str] | None
) -> tuple[Candidates, Adjustment]:
    if settings.folds < 2:
        learned = slice(settings.adjust_on)
        fit = Adjustment.fit(scores[learned], truth[learned], settings.regularization)
        return fit.apply(scores), fit
    fold_of = _folds(groups or [str(row) for row in range(len(scores))], settings.folds)
    adjusted = scores.scores.copy()
    for fold in range(settings.folds):
        inside = fold_of == fold
        others = Candidates(scores.items[~inside], scores.scores[~inside], scores.num_items)
        fit = Adjustment.fit(
            others, [row for row, held in zip(truth, inside, strict=True) if not held], settings.regularization
        )
        mine = Candidates(scores.items[inside], scores.scores[inside], scores.num_items)
        adjusted[inside] = fit.apply(mine).scores
    return scores.with_scores(adjusted), fit


def _folds(groups: Sequence[str], number: int) -> NDArray[np.int64]:
    """`(D,)`: the fold of each row; rows of one group share one, dealt out in order of appearance."""
    names = list(dict.fromkeys(groups))
    if len(names) < number:
        raise ValueError(f"{len(names)} dialogues cannot be split into {number} folds; lower folds")
    fold = {name: place % number for place, name in enumerate(names)}
    return np.array([fold[name] for name in groups])
