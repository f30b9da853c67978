"""`RankReward`: from completions and what the users wanted to one reward per rank, or one per list."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankrl.rewards.blend import LabelSchedule, LabelWeights, blend_labels
from rankrl.rewards.relevance import first_occurrence, relevance
from rankrl.rewards.returns import ReturnKind, check_return, list_returns, rank_returns
from rankrl.rewards.truth import TruthResolver

if TYPE_CHECKING:
    from catalog import Catalog

logger = logging.getLogger(__name__)

_TRUE_ONLY = LabelWeights(1.0, 0.0)
_PATIENCE = 50  # calls in a row without any reward before it is called a mistake rather than a hard task


@dataclass(frozen=True)
class RankScores:
    """What a batch of lists earned, rank by rank.

    Attributes:
        ranked: `(B, K)` int64, item ids in list order, -1 where a rank names nothing in the catalogue.
        relevance: `(B, K)` float64, the gain of the item at each rank, by all labels that count.
        hits: `(B, K)` bool, ranks that name an item the user really wanted, whatever that counts now.
        augmented: `(B, K)` float64, the part of `relevance` that augmented labels pay: 0 where a true one pays as much.
        returns: `(B, K)` float64, what each rank is rewarded with.
        fuzzy: `(B, K)` bool, ranks whose item was found by fuzzy matching only.
        list_returns: `(B,)` float64, what each list is worth as a whole; see `rankrl.rewards.list_returns`.
    """

    ranked: NDArray[np.int64]
    relevance: NDArray[np.float64]
    hits: NDArray[np.bool_]
    augmented: NDArray[np.float64]
    returns: NDArray[np.float64]
    fuzzy: NDArray[np.bool_]
    list_returns: NDArray[np.float64]

    @property
    def repeats(self) -> NDArray[np.bool_]:
        """`(B, K)`: ranks whose item the list names already; what names nothing repeats nothing."""
        return (self.ranked >= 0) & ~first_occurrence(self.ranked)

    @property
    def fuzzy_share(self) -> float:
        """Share of the relevance that fuzzy matches earned, in [0, 1]; 0 if nothing was earned."""
        total = self.relevance.sum()
        return float(self.relevance[self.fuzzy].sum() / total) if total else 0.0


class RankReward:
    """The reward of a ranked list, as a reward function for TRL or any other trainer.

    Rank k is the k-th non-blank line of the completion; a line that names nothing in the catalogue keeps its rank and
    earns 0. Truth is named as files name items: by references that the catalogue resolves.

    Args:
        catalog: the items that can be recommended.
        num_ranks: K, the length of the lists; later lines earn nothing here.
        kind: `"exp"` or `"log"`, the family of returns; see `rank_returns`.
        gamma: discount of `"exp"`; `math.inf` rewards every rank with its own item alone.
        per_rank: True for K rewards a list (what `RankGRPOTrainer` credits rank by rank), False for one float, what
            the list is worth as a whole (its DCG with `"log"`, its number of hits with `"exp"`): what every other
            trainer wants, an unmodified `trl.GRPOTrainer` among them.
        year_tolerance: years by which a reference to a wanted or seen item may miss the catalogue's year.
        min_score: also accept fuzzy matches of at least this score (0-100, as `Catalog.match`). Off by default: it
            pays for misspelt titles. When on, the share of the reward it pays is logged.
        unknown_limit: share of the distinct wanted items that the catalogue may lack; see `TruthResolver`.
        labels: how much augmented labels (the column `augmented`) count beside the true ones; by default they do not.
        item_weights: `(N,)` in (0, 1], what a hit on each item is worth, such as `inverse_propensity_weights`; by
            default all items are worth the same.

    Attributes:
        last_scores: what the lists of the latest call earned, for a trainer to log; None before the first call.

    Raises:
        ValueError: if a setting is out of range; each message says what to use.

    Example:
        >>> from catalog import Catalog
        >>> reward = RankReward(Catalog([("Heat", 1995), ("Up", 2009)]), num_ranks=3)
        >>> reward(completions=["Heat (1995)\\nUp (2009)"], ground_truth=[[{"title": "Up", "year": 2009}]])
        [[0.0, 1.0, 0.0]]

    Source: arXiv 2510.20150, section on rank-level returns.
    """

    def __init__(
        self,
        catalog: Catalog,
        num_ranks: int = 20,
        kind: ReturnKind = "exp",
        gamma: float = math.inf,
        per_rank: bool = True,
        *,
        year_tolerance: int = 0,
        min_score: float | None = None,
        unknown_limit: float = 1.0,
        labels: LabelSchedule | None = None,
        item_weights: ArrayLike | None = None,
    ) -> None:
        if num_ranks < 1:
            raise ValueError(f"num_ranks is {num_ranks}; a list has at least one rank.")
        check_return(kind, gamma)
        self.catalog = catalog
        self.num_ranks = num_ranks
        self.kind: ReturnKind = kind
        self.gamma = gamma
        self.per_rank = per_rank
        self.min_score = min_score
        self.__name__ = "rank_reward"  # TRL names its metrics after it
        self.labels = labels or LabelSchedule()
        self.item_weights: NDArray[np.float64] | None = None
        if item_weights is not None:
            self.weigh_items(item_weights)
        self._resolver = TruthResolver(catalog, year_tolerance=year_tolerance, unknown_limit=unknown_limit)
        self._augmented_resolver = TruthResolver(
            catalog, year_tolerance=year_tolerance, unknown_limit=unknown_limit, column="augmented", allow_empty=True
        )
        self.last_scores: RankScores | None = None
        self._calls_without_reward = 0
        self._told_of_seen_truth = False

    def __call__(
        self,
        *,
        completions: Sequence[Any],
        ground_truth: Sequence[Iterable[Any]] | None = None,
        seen: Sequence[Iterable[Any] | None] | None = None,
        augmented: Sequence[Iterable[Any] | None] | None = None,
        trainer_state: Any = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[list[float]] | list[float]:
        """Return the rewards of a batch of completions.

        Args:
            completions: B texts, or B conversations (`[{"role": "assistant", "content": ...}]`).
            ground_truth: per completion the references of the wanted items.
            seen: per completion the references of items that earn nothing; omit for none.
            augmented: per completion the references of items that fit though no user named them, with their gains.
                Read only where `labels` lets them count; then it must be there.
            trainer_state: TRL's hook, `global_step` and `max_steps`: how far the training is, for `labels` that change.
            log_metric: TRL's hook for scalar metrics.
            **columns: further data-set columns, not used.

        Returns:
            B lists of K floats, or B floats with `per_rank=False`.

        Raises:
            TypeError: if there is no `ground_truth`, no `augmented` though it should count, no `trainer_state` though
                labels change over training, or a completion is neither text nor a conversation.
            ValueError: if the columns differ in length or the truth cannot be used; see `TruthResolver.truth`.
        """
        if ground_truth is None:
            raise TypeError(
                f"RankReward needs a column `ground_truth`: per row a list of the wanted items. The other columns it "
                f"was given are {sorted(columns)}. Rename yours with dataset.rename_column(..., 'ground_truth'), "
                "and keep remove_unused_columns=False."
            )
        if self.labels.weight > 0 and augmented is None:
            raise TypeError(
                f"RankReward is to count augmented labels (weight {self.labels.weight:g}), but there is no column "
                f"`augmented`; the others are {sorted(columns)}. Make it with recipes/augment_labels.py, or set the "
                "weight to 0."
            )
        weights = self.labels.at(_progress(trainer_state) if self.labels.changes else 0.0)
        scores = self.last_scores = self.score(completions, ground_truth, seen, augmented, weights)
        if log_metric is not None and self.min_score is not None:
            log_metric(f"{self.__name__}/fuzzy_share", scores.fuzzy_share)
        rewards = scores.returns if self.per_rank else scores.list_returns
        return rewards.tolist()

    def weigh_items(self, weights: ArrayLike) -> None:
        """Say what a hit on each item is worth from now on.

        Args:
            weights: `(N,)` in (0, 1], such as `inverse_propensity_weights`.

        Raises:
            ValueError: for another shape, or a weight out of range.
        """
        self.item_weights = _check_item_weights(weights, len(self.catalog))

    def check_truth(
        self, ground_truth: Sequence[Iterable[Any]], augmented: Sequence[Iterable[Any] | None] | None = None
    ) -> list[dict[int, float]]:
        """Resolve the labels of a whole data set before training: one report, and one verdict on `unknown_limit`.

        Without it `unknown_limit` is judged on the batches seen so far, the first of which may be unlucky, and a wrong
        catalogue is found only after some.

        Returns:
            What each row's user wanted, `{item id: gain}`.

        Raises:
            ValueError: if nothing is in the catalogue, more is missing than `unknown_limit` allows, or augmented labels
                should count and no row has any.
        """
        truth = self._resolver.truth(ground_truth)
        if self.labels.weight > 0:
            labels = self._augmented_resolver.truth([row or () for row in augmented or ()])
            if not any(labels):
                raise ValueError(
                    f"augmented labels are to count (weight {self.labels.weight:g}), but none of the "
                    f"{len(ground_truth)} rows has any. Make them with recipes/augment_labels.py, or set the "
                    "weight to 0."
                )
        return truth

    def score(
        self,
        completions: Sequence[Any],
        ground_truth: Sequence[Iterable[Any]],
        seen: Sequence[Iterable[Any] | None] | None = None,
        augmented: Sequence[Iterable[Any] | None] | None = None,
        weights: LabelWeights = _TRUE_ONLY,
    ) -> RankScores:
        """Return everything about a batch that the rewards come from, as arrays; arguments as in `__call__`.

        `weights` says what true and augmented labels count.
        """
        for name, column in (("ground_truth", ground_truth), ("seen", seen), ("augmented", augmented)):
            if column is not None and len(column) != len(completions):
                raise ValueError(f"{name} has {len(column)} rows for {len(completions)} completions; give one each.")
        texts = [completion_text(completion) for completion in completions]
        truth = self._resolver.truth(ground_truth, in_part=True)
        seen_items = None if seen is None else self._resolver.seen(seen)
        if seen_items is not None:
            self._warn_of_seen_truth(truth, seen_items)
        ranked, match_scores = self.catalog.ranked_scores(texts, self.num_ranks, min_score=self.min_score)
        true_gains = gains = relevance(ranked, truth, seen=seen_items)
        if weights != _TRUE_ONLY:
            labels = [row or () for row in augmented or [()] * len(texts)]
            extra = self._augmented_resolver.truth(labels, in_part=True)
            gains = relevance(ranked, blend_labels(truth, extra, weights), seen=seen_items)
        from_augmented = np.where(weights.true * true_gains < gains, gains, 0.0)
        if self.item_weights is not None:
            weight = np.where(ranked >= 0, self.item_weights[ranked], 0.0)
            gains, from_augmented = gains * weight, from_augmented * weight
        returns = rank_returns(gains, self.kind, self.gamma)
        fuzzy = (match_scores > 0) & (match_scores < 100)
        worths = list_returns(gains, self.kind)
        scores = RankScores(ranked, gains, true_gains > 0, from_augmented, returns, fuzzy, worths)
        self._watch_for_silence(scores, texts)
        return scores

    def _warn_of_seen_truth(self, truth: Sequence[dict[int, float]], seen: Sequence[set[int]]) -> None:
        num_rows = sum(bool(wanted) and wanted.keys() <= items for wanted, items in zip(truth, seen, strict=True))
        if num_rows and not self._told_of_seen_truth:
            self._told_of_seen_truth = True
            logger.warning(
                "%d of %d rows want only items that are in their `seen`, which earn nothing. Drop such rows, or leave "
                "out the `seen` column to pay for repeated items. (Said once.)",
                num_rows,
                len(truth),
            )

    def _watch_for_silence(self, scores: RankScores, texts: Sequence[str]) -> None:
        """Warn once when nothing has been earned for long: nearly always a mistake in the data or the prompt."""
        self._calls_without_reward = 0 if scores.relevance.any() else self._calls_without_reward + 1
        if texts and self._calls_without_reward == _PATIENCE:
            logger.warning(
                "No list has earned anything in the last %d batches; in this one %.0f %% of the first %d ranks name an "
                "item of the catalogue. Do the completions list one catalogue title a line? This one begins %r.",
                _PATIENCE,
                100 * (scores.ranked >= 0).mean(),
                self.num_ranks,
                texts[0][:200],
            )


def _progress(trainer_state: Any) -> float:
    """Share of the training that is done, by TRL's state."""
    if trainer_state is None or not getattr(trainer_state, "max_steps", 0) > 0:
        raise TypeError(
            "labels change over training, so RankReward must know how far it is: call it with trainer_state (TRL "
            "does), an object with global_step and max_steps, or use a constant schedule."
        )
    return min(trainer_state.global_step / trainer_state.max_steps, 1.0)


def _check_item_weights(weights: ArrayLike, num_items: int) -> NDArray[np.float64]:
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (num_items,) or not ((array > 0) & (array <= 1)).all():
        raise ValueError(
            f"item_weights have shape {array.shape}; expected one weight in (0, 1] for each of the {num_items} items, "
            "such as inverse_propensity_weights(counts)."
        )
    return array


def completion_text(completion: Any) -> str:
    """Return the text of a completion: a string, or a conversation's last message.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(completion, str):
        return completion
    if isinstance(completion, list) and completion and isinstance(completion[-1], dict):
        content = completion[-1].get("content")
        if isinstance(content, str):
            return content
    raise TypeError(
        f"a completion is {completion!r}; expected a text, or a conversation such as "
        '[{"role": "assistant", "content": "Heat (1995)\\n..."}].'
    )
