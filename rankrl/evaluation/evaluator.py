"""Scores of a system on held-out dialogues: per row, so that means, intervals and paired differences follow."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from catalog import parse_list
from rankrl.data.splitting import dialogue_of
from rankrl.evaluation.significance import Interval, bootstrap_means
from rankrl.metrics import (
    Popularity,
    coverage_at_k,
    hit_rate_at_k,
    in_catalog_share,
    mrr,
    ndcg_at_k,
    popularity_at_k,
    recall_at_k,
    repeat_share,
    tail_recall_at_k,
    tail_share_at_k,
)
from rankrl.metrics.protocols import SeenItems, served, strict
from rankrl.rewards.relevance import check_ranked, relevance
from rankrl.rewards.truth import TruthResolver

if TYPE_CHECKING:
    from catalog import Catalog
    from rankrl.data import Dialogue

logger = logging.getLogger(__name__)

_PARTIAL = ("tail", "popularity", "tail_recall")  # measures that not every row has


@dataclass(frozen=True)
class Scores:
    """How one system did on B dialogue rows.

    Metrics are called as in `metrics.json`. Of the two protocols `served` has the plain names, `strict` a prefix:

    - `ndcg@k`, `recall@k`, `hit@k`, `mrr` and the same as `strict_ndcg@k`, ...: see `rankrl.metrics`;
    - `in_catalog`: share of the written lines that name an item of the catalogue;
    - `repeats`: share of a list's items that it names already;
    - `lines`: number of lines written, at most K;
    - `coverage@k`: share of the catalogue that is shown to anybody. One number for all rows;
    - where popularity is known, `tail@k` (share of the tail), `popularity@k` (mean percentile) and `tail_recall@k` of
      what is served. A list without items has neither of the first two, a row that wants nothing of the tail has no
      tail recall: such rows hold NaN and are left out of mean, interval and difference.

    Attributes:
        ids: B row ids, `<set>:<dialogue>:<turn>`.
        rows: per metric `(B,)` float64, NaN where a row has no value.
        totals: metrics that exist only for all rows together.
        hit_rate_by_rank: `(K,)` float64, share of the rows with a hit at that very rank (`strict`).
    """

    ids: tuple[str, ...]
    rows: Mapping[str, NDArray[np.float64]]
    totals: Mapping[str, float]
    hit_rate_by_rank: NDArray[np.float64]

    @property
    def dialogues(self) -> list[str]:
        """The dialogue of each row: what a bootstrap draws."""
        return [dialogue_of(row_id) for row_id in self.ids]

    @property
    def _partial(self) -> list[str]:
        return [metric for metric in self.rows if metric.partition("@")[0] in _PARTIAL]

    def summary(self) -> dict[str, float]:
        """Return the mean of every metric over the rows that have it, and the totals; what no row has is left out."""
        partial = self._partial
        known = {
            metric: values[~np.isnan(values)] if metric in partial else values for metric, values in self.rows.items()
        }
        return {metric: float(values.mean()) for metric, values in known.items() if len(values)} | dict(self.totals)

    def intervals(self, *, level: float = 0.95, seed: int = 0) -> dict[str, Interval]:
        """Return every metric's mean with its bootstrap interval over dialogues; totals have no width."""
        intervals = bootstrap_means(self.rows, self.dialogues, partial=self._partial, level=level, seed=seed)
        return intervals | {metric: Interval.parse(value) for metric, value in self.totals.items()}

    def differences(self, baseline: Scores, *, level: float = 0.95, seed: int = 0) -> dict[str, Interval]:
        """Return the paired difference to another system, metric by metric, over the rows in which both have a value.

        Raises:
            ValueError: if the two systems were not scored on the same rows in the same order.
        """
        if self.ids != baseline.ids:
            raise ValueError("the two systems were scored on different rows; evaluate both on the same dialogues.")
        paired = {
            metric: values - baseline.rows[metric] for metric, values in self.rows.items() if metric in baseline.rows
        }
        return bootstrap_means(paired, self.dialogues, partial=self._partial, level=level, seed=seed)


def evaluate(
    texts: Sequence[str],
    dialogues: Sequence[Dialogue],
    catalog: Catalog,
    *,
    num_ranks: int = 20,
    ks: Sequence[int] = (5, 10, 20),
    year_tolerance: int = 0,
    min_score: float | None = None,
    unknown_limit: float = 1.0,
    popularity: Popularity | None = None,
) -> Scores:
    """Score a system's texts against what the users of the dialogues wanted.

    Args:
        texts: one completion per dialogue row.
        dialogues: the rows; their `id`, `seen` and `ground_truth` are used.
        catalog: decides which line is which item.
        num_ranks: K; lines after it are not looked at.
        ks: cuts of the metrics; those above K are left out.
        year_tolerance: years by which a truth reference may miss the catalogue's year.
        min_score: also accept fuzzy matches of at least this score; exact ones only by default.
        unknown_limit: share of the truth that the catalogue may lack; see `rankrl.rewards.TruthResolver`.
        popularity: how popular the items are in the training data, to score the tail too.

    Returns:
        `Scores` of the rows of which the catalogue knows at least one wanted item; a warning counts the others.

    Raises:
        ValueError: if texts and dialogues differ in number, or the truth cannot be used.
    """
    if len(texts) != len(dialogues):
        raise ValueError(f"{len(texts)} texts for {len(dialogues)} dialogues; give one text per row.")
    resolver = TruthResolver(catalog, year_tolerance=year_tolerance, unknown_limit=unknown_limit)
    return evaluate_ranked(
        catalog.ranked(texts, num_ranks, min_score=min_score),
        resolver.truth([dialogue.ground_truth for dialogue in dialogues]),
        ids=[dialogue.id for dialogue in dialogues],
        num_items=len(catalog),
        seen=resolver.seen([dialogue.seen for dialogue in dialogues]),
        num_lines=[len(parse_list(text)) for text in texts],
        ks=ks,
        popularity=popularity,
    )


def evaluate_ranked(
    ranked: ArrayLike,
    truth: Sequence[Mapping[int, float]],
    *,
    ids: Sequence[str],
    num_items: int,
    seen: SeenItems | None = None,
    num_lines: ArrayLike | None = None,
    ks: Sequence[int] = (5, 10, 20),
    popularity: Popularity | None = None,
) -> Scores:
    """Score lists of item ids: what `evaluate` does after the border, and all that a model without text needs.

    Args:
        ranked: `(B, K)` item ids, -1 for nothing.
        truth: per row `{item id: gain}`; rows without any are left out, with a warning.
        ids: B row ids.
        num_items: N, the size of the catalogue.
        seen: per row the item ids the user has seen.
        num_lines: `(B,)` lines written; by default every list is as long as its last item.
        ks: cuts of the metrics; those above K are left out (if none is left, K).
        popularity: how popular the items are in the training data, to score the tail too.

    Returns:
        `Scores`.

    Raises:
        ValueError: if no row wants anything, or the numbers of rows or items differ.
    """
    if popularity is not None and len(popularity.tail) != num_items:
        raise ValueError(
            f"popularity is known of {len(popularity.tail)} items, but the catalogue has {num_items}: count it with "
            "Popularity.of(truth, num_items) for this catalogue."
        )
    ranked = check_ranked(ranked)
    lines = _last_rank(ranked) if num_lines is None else np.asarray(num_lines)
    kept = _rows_with_truth(truth, ids)
    ranked, lines, ids = ranked[kept], lines[kept], [ids[row] for row in kept]
    truth = [truth[row] for row in kept]
    seen_items = None if seen is None else [set(seen[row]) for row in kept]
    _warn_of_seen_truth(truth, seen_items)

    num_ranks = ranked.shape[1]
    cuts = [k for k in ks if k <= num_ranks] or [num_ranks]
    shown, written = served(ranked, seen_items, num_ranks), strict(ranked, seen_items, num_ranks)
    rows = _quality(shown, truth, cuts)
    rows |= {f"strict_{metric}": values for metric, values in _quality(written, truth, cuts).items()}
    if popularity is not None:
        rows |= _popularity(shown, truth, popularity, cuts)
    rows["in_catalog"] = in_catalog_share(ranked, lines)
    rows["repeats"] = repeat_share(ranked)
    rows["lines"] = np.minimum(lines, num_ranks).astype(np.float64)
    return Scores(
        ids=tuple(ids),
        rows=rows,
        totals={f"coverage@{k}": coverage_at_k(shown, num_items, k) for k in cuts},
        hit_rate_by_rank=(relevance(written, truth) > 0).mean(axis=0),
    )


def _quality(
    shown: NDArray[np.int64], truth: Sequence[Mapping[int, float]], cuts: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    metrics = {"ndcg": ndcg_at_k, "recall": recall_at_k, "hit": hit_rate_at_k}
    by_cut = {f"{name}@{k}": metric(shown, truth, k) for name, metric in metrics.items() for k in cuts}
    return by_cut | {"mrr": mrr(shown, truth)}


def _popularity(
    shown: NDArray[np.int64], truth: Sequence[Mapping[int, float]], popularity: Popularity, cuts: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    return (
        {f"tail@{k}": tail_share_at_k(shown, popularity.tail, k) for k in cuts}
        | {f"popularity@{k}": popularity_at_k(shown, popularity.percentile, k) for k in cuts}
        | {f"tail_recall@{k}": tail_recall_at_k(shown, truth, popularity.tail, k) for k in cuts}
    )


def _last_rank(ranked: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(ranked >= 0, np.arange(1, ranked.shape[1] + 1), 0).max(axis=1, initial=0)


def _rows_with_truth(truth: Sequence[Mapping[int, float]], ids: Sequence[str]) -> list[int]:
    if len(truth) != len(ids):
        raise ValueError(f"{len(truth)} rows of truth for {len(ids)} ids; give one of each per list.")
    kept = [row for row, wanted in enumerate(truth) if wanted]
    if not kept:
        raise ValueError("no row wants anything that is in the catalogue, so there is nothing to score.")
    if len(kept) < len(ids):
        examples = [ids[row] for row, wanted in enumerate(truth) if not wanted][:5]
        logger.warning(
            "%d of %d rows want nothing that is in the catalogue and are left out of every score, for example %s.",
            len(ids) - len(kept),
            len(ids),
            ", ".join(examples),
        )
    return kept


def _warn_of_seen_truth(truth: Sequence[Mapping[int, float]], seen: Sequence[set[int]] | None) -> None:
    """A wanted item that the user has seen is dropped from every list, so nobody can score it."""
    num_seen = 0 if seen is None else sum(len(wanted.keys() & items) for wanted, items in zip(truth, seen, strict=True))
    if num_seen:
        logger.warning(
            "%d of %d wanted items are in their row's `seen`. Both protocols drop seen items, so these are counted "
            "and cannot be hit; drop them from the truth when loading to score new recommendations only.",
            num_seen,
            sum(map(len, truth)),
        )
