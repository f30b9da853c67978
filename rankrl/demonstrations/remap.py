"""Remap: a teacher's list of titles, in the catalogue or not, becomes a score for every item of the catalogue.

    s_remap = p (S + I) + weight * s_context                         (arXiv 2510.20150, appendix A)

`p` holds 1 / sqrt(rank) at the titles of the list, `S` the similarity of titles and items, `I` is 1 where they are the
same item, and `s_context` is the similarity of the dialogue and the items.

Letters: D dialogues, R ranks of a raw list, C titles the teacher ever named, N items of the catalogue, M candidates.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array, issparse

from rankrl.demonstrations.candidates import Candidates
from rankrl.encoders import Vectors
from rankrl.encoders.top import top_columns
from rankrl.rewards.relevance import check_ranked, first_occurrence

logger = logging.getLogger(__name__)

PART_ITEMS = 8192
"""Items compared at a time."""

BLOCK_SCORES = 2**25
"""Scores held at a time, 256 MiB."""


def remap_scores(
    raw_lists: ArrayLike,
    item_similarity: ArrayLike,
    same_item: ArrayLike | csr_array,
    context_similarity: ArrayLike,
    weight: float = 1.0,
) -> NDArray[np.float64]:
    """Score every item of the catalogue for every dialogue.

    Args:
        raw_lists: `(D, R)` integers, the teacher's lists as ids of its titles, 0..C-1, best first. -1 is a rank that
            names nothing: it counts for nothing and the titles after it keep their rank. So does a title that stands
            in its list for the second time.
        item_similarity: `(C, N)`, similarity of titles and items; a memory-mapped file is read in parts.
        same_item: `(C, N)` 0/1, dense or sparse, 1 where title and item are the same; or `(C,)` integers, the item
            that is the same as each title, -1 for none.
        context_similarity: `(D, N)`, similarity of dialogues and items.
        weight: λ, how much the dialogue counts beside the list.

    Returns:
        `(D, N)` float64. An empty list leaves the dialogue's similarity alone, which a warning counts.

    Raises:
        ValueError: if shapes disagree, ids are out of range, an input is not finite, or every list is empty.

    Example:
        >>> remap_scores([[1, 0]], [[0.2, 0.1], [0.5, 0.0]], [0, -1], [[0.0, 0.3]]).round(3)
        array([[1.349, 0.371]])

    Source: arXiv 2510.20150, appendix A (Remap).
    """
    similarity, context = np.asanyarray(item_similarity), np.asanyarray(context_similarity)
    if similarity.ndim != 2:
        raise ValueError(f"item_similarity must have shape (C, N), titles by items; got {similarity.shape}")
    num_titles, num_items = similarity.shape
    raw, gain = _position_weights(raw_lists, num_titles)
    if context.shape != (len(raw), num_items):
        raise ValueError(f"context_similarity must have shape {(len(raw), num_items)}, (D, N); got {context.shape}")
    positions = _position_matrix(raw, gain, num_titles)
    scores = np.multiply(context, weight, dtype=np.float64)
    scores += (positions @ _same_matrix(same_item, num_titles, num_items)).toarray()
    width = max(1, BLOCK_SCORES // max(num_titles, len(raw)))
    for start in range(0, num_items, width):
        part = slice(start, start + width)
        scores[:, part] += positions @ similarity[:, part].astype(np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("a score is NaN or infinite; item_similarity, context_similarity and weight must be finite")
    return scores


def remap_candidates(
    raw_lists: ArrayLike,
    teacher_vectors: Vectors,
    same_item: ArrayLike,
    item_vectors: Vectors,
    context_vectors: Vectors,
    *,
    num_candidates: int = 1000,
    weight: float = 1.0,
    block: int | None = None,
    allow_empty: bool = False,
) -> Candidates:
    """The M best items of every dialogue by `remap_scores`, for catalogues too large for a `(C, N)` or `(D, N)` array.

    Similarities are inner products, so a list and its dialogue add up to one vector, sum of p v(title) + weight *
    v(dialogue), which is compared with all items at once, a block of dialogues at a time. Items that the list names
    are always candidates.

    Args:
        raw_lists: as in `remap_scores`.
        teacher_vectors: `(C, d)` unit vectors of the teacher's titles, dense or CSR, of one encoder with the next two.
        same_item: `(C,)` integers, the item that is the same as each title, -1 for none.
        item_vectors: `(N, d)` unit vectors of the items.
        context_vectors: `(D, d)` unit vectors of the dialogues.
        num_candidates: M; all N items where the catalogue is not larger, and then the scores are exactly those of
            `remap_scores`.
        weight: λ.
        block: dialogues at a time; by default as many as hold 256 MiB of scores.
        allow_empty: these may be lists that are all empty: some of the dialogues, others of which have lists.

    Returns:
        The candidates, of equal scores those with the smaller item ids.

    Raises:
        ValueError: as `remap_scores`; or if M is smaller than the lists are long.

    Source: arXiv 2510.20150, appendix A (Remap); the candidate form is ours.
    """
    _check_vectors(teacher_vectors, item_vectors, context_vectors)
    num_titles, num_items = teacher_vectors.shape[0], item_vectors.shape[0]
    raw, gain = _position_weights(raw_lists, num_titles, allow_empty)
    if context_vectors.shape[0] != len(raw):
        raise ValueError(f"{context_vectors.shape[0]} context_vectors for {len(raw)} lists: give one per dialogue")
    num_candidates = min(num_candidates, num_items)
    if num_candidates < min(raw.shape[1], num_items):
        raise ValueError(f"num_candidates is {num_candidates}, but the lists name up to {raw.shape[1]} items: raise it")
    same = _same_matrix(same_item, num_titles, num_items)
    positions = _position_matrix(raw, gain, num_titles)
    titles, parts = teacher_vectors.astype(np.float64), _item_parts(item_vectors)
    block = max(1, BLOCK_SCORES // num_items) if block is None else block
    if block < 1:
        raise ValueError(f"block is {block}; it is a number of dialogues, at least 1")

    items = np.empty((len(raw), num_candidates), dtype=np.int64)
    scores = np.empty((len(raw), num_candidates))
    for start in range(0, len(raw), block):
        rows = slice(start, start + block)
        queries = positions[rows] @ titles + weight * context_vectors[rows].astype(np.float64)
        named = (positions[rows] @ same).tocoo()
        items[rows], scores[rows] = _best(_compare(queries, parts, num_items), named, num_candidates)
    return Candidates(items, scores, num_items)


def _position_weights(
    raw_lists: ArrayLike, num_titles: int, allow_empty: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The checked `(D, R)` lists, and 1 / sqrt(rank) where a title stands for the first time, else 0."""
    raw = check_ranked(raw_lists)
    if not raw.size:
        raise ValueError(f"raw_lists has shape {raw.shape}; expected (D, R) with at least one dialogue and one rank")
    if raw.max() >= num_titles:
        raise ValueError(f"raw_lists names title {raw.max()}, but there are {num_titles} titles (0..{num_titles - 1})")
    counts = first_occurrence(raw)
    empty = int((~counts.any(axis=1)).sum())
    if empty == len(raw) and not allow_empty:
        raise ValueError(f"all {empty} raw lists are empty: did the teacher answer, and were its lines read?")
    if empty:
        logger.warning("%d of %d raw lists are empty; their scores are those of the dialogue alone", empty, len(raw))
    return raw, np.where(counts, 1 / np.sqrt(np.arange(1, raw.shape[1] + 1)), 0.0)


def _position_matrix(raw: NDArray[np.int64], gain: NDArray[np.float64], num_titles: int) -> csr_array:
    """`p` of all dialogues, `(D, C)`."""
    rows, columns = np.nonzero(gain)
    return csr_array((gain[rows, columns], (rows, raw[rows, columns])), shape=(len(raw), num_titles))


def _same_matrix(same_item: ArrayLike | csr_array, num_titles: int, num_items: int) -> csr_array:
    """`I`, `(C, N)`, from any of its forms."""
    same: Any = same_item if issparse(same_item) else np.asanyarray(same_item)
    if same.shape == (num_titles, num_items):
        matrix = csr_array(same, dtype=np.float64)
        if not np.isin(matrix.data, (0.0, 1.0)).all():
            raise ValueError("same_item holds other values than 0 and 1")
        return matrix
    if same.shape != (num_titles,) or not np.issubdtype(same.dtype, np.integer):
        raise ValueError(
            f"same_item is {same.dtype} of shape {same.shape}; expected item ids of shape {(num_titles,)}, with -1 for "
            f"none, or 0/1 of shape {(num_titles, num_items)}"
        )
    if same.size and not -1 <= same.min() <= same.max() < num_items:
        raise ValueError(f"same_item names items {same.min()} to {same.max()}; ids are 0..{num_items - 1}, or -1")
    titles = np.flatnonzero(same >= 0)
    return csr_array((np.ones(len(titles)), (titles, same[titles])), shape=(num_titles, num_items))


def _check_vectors(teacher: Vectors, item: Vectors, context: Vectors) -> None:
    vectors = {"teacher_vectors": teacher, "item_vectors": item, "context_vectors": context}
    shapes = ", ".join(f"{name} {array.shape}" for name, array in vectors.items())
    if len({array.shape[1:] for array in vectors.values()}) > 1 or item.ndim != 2:
        raise ValueError(f"vectors must come from one encoder, (n, d) with one d; got {shapes}")
    if len({issparse(array) for array in vectors.values()}) > 1:
        raise ValueError(f"vectors must all be dense or all be sparse, from one encoder; got {shapes}")
    for name, array in vectors.items():
        if not np.isfinite(array.data if issparse(array) else array).all():
            raise ValueError(f"{name} hold NaN or infinite numbers")


def _item_parts(item_vectors: Any) -> list[tuple[slice, Any]]:
    """The items in parts, each transposed to `(d, n)`: so that one part at a time becomes float64."""
    parts = [slice(start, start + PART_ITEMS) for start in range(0, item_vectors.shape[0], PART_ITEMS)]
    if issparse(item_vectors):
        return [(part, item_vectors[part].T.tocsr().astype(np.float64)) for part in parts]
    return [(part, item_vectors[part].T) for part in parts]


def _compare(queries: Any, parts: list[tuple[slice, Any]], num_items: int) -> NDArray[np.float64]:
    """Inner products of `(d, dim)` queries and all items, in float64: float32 would be off by more than 1e-6."""
    scores = np.empty((queries.shape[0], num_items))
    for part, vectors in parts:
        product = queries @ vectors.astype(np.float64, copy=False)
        scores[:, part] = product.toarray() if issparse(product) else product
    return scores


def _best(scores: NDArray[np.float64], named: coo_array, number: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Item ids and scores of each row's best, after the named items got what their ranks are worth."""
    own = scores[named.row, named.col] + named.data
    scores[named.row, named.col] = np.inf  # whatever their score, they are candidates
    items = np.stack([top_columns(row, number) for row in scores])
    scores[named.row, named.col] = own
    return items, np.take_along_axis(scores, items, axis=1)
