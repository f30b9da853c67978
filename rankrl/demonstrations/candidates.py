"""The best M items of each dialogue instead of all N: what keeps stage 1 small where the catalogue is large.

At 300,000 items and 10,000 dialogues a `(D, N)` score matrix takes 24 GB; the best 1,000 of each dialogue take 160 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from rankrl.encoders.top import top_columns
from rankrl.rewards.relevance import is_seen


@dataclass(frozen=True, eq=False)
class Candidates:
    """Scores of M items for each of D dialogues: a CSR matrix whose rows are equally long.

    Args:
        items: `(D, M)` int64 item ids, ascending in each row, none twice.
        scores: `(D, M)` float64, the score of each.
        num_items: N, the size of the catalogue.

    Raises:
        ValueError: if the shapes disagree, ids are out of range or not ascending, or a score is not finite.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float64]
    num_items: int

    def __post_init__(self) -> None:
        if self.items.ndim != 2 or self.items.shape != self.scores.shape:
            raise ValueError(
                f"items {self.items.shape} and scores {self.scores.shape} must have one shape, (D, M): "
                "M candidates for every dialogue"
            )
        if self.items.size and not 0 <= self.items.min() <= self.items.max() < self.num_items:
            raise ValueError(
                f"candidates are items {self.items.min()} to {self.items.max()}; ids are 0..{self.num_items - 1}"
            )
        if (np.diff(self.items, axis=1) <= 0).any():
            raise ValueError("the candidates of a dialogue must be in ascending order of item id, none twice")
        check_finite(self.scores)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: slice) -> Candidates:
        return Candidates(self.items[rows], self.scores[rows], self.num_items)

    def with_scores(self, scores: NDArray[np.float64]) -> Candidates:
        """The same candidates with other scores."""
        return replace(self, scores=scores)

    def to_csr(self) -> csr_array:
        """The scores as a `(D, N)` CSR array; what is stored is a candidate, even with the score 0."""
        starts = np.arange(0, self.items.size + 1, max(self.items.shape[1], 1))
        return csr_array((self.scores.ravel(), self.items.ravel(), starts), shape=(len(self), self.num_items))

    def locate(self, rows: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.int64]:
        """The column that holds an item in its row.

        Args:
            rows: dialogues, in the shape of `items`.
            items: item ids.

        Returns:
            int64 of that shape; -1 where the item is no candidate of the dialogue.
        """
        num_candidates = self.items.shape[1]
        codes = (np.arange(len(self))[:, None] * self.num_items + self.items).ravel()  # ascending
        wanted = rows * self.num_items + items
        place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
        return np.where((codes[place] == wanted) & (items >= 0), place % num_candidates, -1)


def top_items(
    scores: ArrayLike | Candidates, num_ranks: int, exclude: Sequence[Iterable[int]] | None = None
) -> NDArray[np.int64]:
    """The best items of each dialogue, best first; of equal scores the smaller id first.

    No item stands twice in a list.

    Args:
        scores: `(D, N)` scores, or candidates.
        num_ranks: K.
        exclude: per dialogue the item ids that must not be listed, such as what the user has seen; -1 (an item
            outside the catalogue) excludes nothing. Omit to exclude nothing at all.

    Returns:
        `(D, K)` int64 item ids.

    Raises:
        ValueError: if fewer than K items remain for a dialogue, the shapes disagree, or a score is not finite.

    Example:
        >>> top_items([[0.1, 0.9, 0.5]], num_ranks=2, exclude=[[1]])
        array([[2, 0]])
    """
    if not isinstance(scores, Candidates):
        scores = as_scores(scores)
    if num_ranks < 1:
        raise ValueError(f"num_ranks is {num_ranks}; expected at least 1")
    if exclude is not None and len(exclude) != len(scores):
        raise ValueError(f"exclude has {len(exclude)} rows for {len(scores)} dialogues: give one entry per dialogue")
    lists = np.empty((len(scores), num_ranks), dtype=np.int64)
    for row in range(len(scores)):
        items, values = _listable(scores, row, exclude)
        if len(items) < num_ranks:
            raise ValueError(
                f"dialogue {row} has {len(items)} items left to list, but num_ranks is {num_ranks}. "
                "Raise num_candidates, exclude fewer items, or lower num_ranks."
            )
        best = top_columns(values, num_ranks)
        lists[row] = items[best[np.argsort(-values[best], kind="stable")]]
    return lists


def top_overlap(
    scores: ArrayLike | Candidates,
    exact: ArrayLike | Candidates,
    num_ranks: int = 20,
    exclude: Sequence[Iterable[int]] | None = None,
) -> float:
    """How much of the exact top K survives in the top K of fewer candidates: what a choice of M costs.

    Run the steps on a sample of the dialogues twice, with M candidates and with all N, and compare what comes out.

    Args:
        scores: final scores of the dialogues, on M candidates.
        exact: final scores of the same dialogues on all items.
        num_ranks: K.
        exclude: as in `top_items`.

    Returns:
        The share, in [0, 1], of the exact lists' items that the others hold too, at whatever rank.

    Example:
        >>> top_overlap([[0.9, 0.1, 0.5]], [[0.9, 0.6, 0.5]], num_ranks=2)
        0.5
    """
    lists, wanted = top_items(scores, num_ranks, exclude), top_items(exact, num_ranks, exclude)
    if len(lists) != len(wanted):
        raise ValueError(f"{len(lists)} dialogues are compared with {len(wanted)}; give both for the same sample")
    return float(is_seen(lists, wanted.tolist()).mean())


def mean_ranks(scores: ArrayLike | Candidates) -> NDArray[np.float64]:
    """The mean rank, from 1, of each item among the scored items of the dialogues; equal scores in order of id.

    Returns:
        `(N,)` float64; NaN for an item that is a candidate of no dialogue.
    """
    scores = scores if isinstance(scores, Candidates) else as_scores(scores)
    sums, counts = np.zeros((2, scores.num_items if isinstance(scores, Candidates) else scores.shape[1]))
    for row in range(len(scores)):
        items, values = _scored(scores, row)
        sums[items[np.argsort(-values, kind="stable")]] += np.arange(1, len(items) + 1)
        counts[items] += 1
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def as_scores(scores: ArrayLike) -> NDArray[np.floating]:
    """A `(D, N)` array of scores as it came (memory-mapped if it was), or what is wrong with it.

    Raises:
        ValueError: if it is no two-dimensional array of finite numbers.
    """
    array = np.asanyarray(scores)
    if array.ndim != 2:
        raise ValueError(f"scores must have shape (D, N), one row per dialogue; got {array.shape}")
    for start in range(0, len(array), 256):  # never the whole of a memory-mapped file
        check_finite(array[start : start + 256], first_row=start)
    return array


def check_finite(scores: NDArray, first_row: int = 0) -> None:
    """Raises `ValueError`, naming the dialogue, where a score is NaN or infinite."""
    finite = np.isfinite(scores).all(axis=-1)
    if not finite.all():
        raise ValueError(
            f"dialogue {first_row + int(np.argmin(finite))} has a score that is NaN or infinite; every score must be "
            "finite. Check the vectors that the similarities were made of."
        )


def _listable(
    scores: NDArray[np.floating] | Candidates, row: int, exclude: Sequence[Iterable[int]] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The items of a dialogue that may be listed, ascending, and their scores."""
    items, values = _scored(scores, row)
    if exclude is None:
        return items, values
    kept = ~is_seen(items[None], [exclude[row]])[0]
    return items[kept], values[kept]


def _scored(scores: NDArray[np.floating] | Candidates, row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The items of a dialogue, ascending, and their scores."""
    if isinstance(scores, Candidates):
        return scores.items[row], scores.scores[row]
    return np.arange(scores.shape[1]), scores[row].astype(np.float64)
