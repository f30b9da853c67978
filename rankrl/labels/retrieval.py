"""Retrieve: the items nearest to each dialogue, by what the texts say alone.

No popularity enters here. Augmented labels are to say what would suit the user; what people really choose is said by
the true labels (arXiv 2508.05657).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankrl.encoders import Vectors, similarity
from rankrl.encoders.top import top_columns

BLOCK_SIMILARITIES = 1 << 24  # similarities held at a time: 64 MiB of float32


@dataclass(frozen=True, eq=False)
class Retrieved:
    """The nearest items of D dialogues.

    Attributes:
        items: `(D, M)` int64 item ids, most similar first, then the smaller id; -1 where nothing more is similar.
        similarities: `(D, M)` float32 cosine similarities; 0 beside -1.
        ordinary: `(D,)` float32, the mean similarity of a dialogue to all items: what "not similar" looks like.
    """

    items: NDArray[np.int64]
    similarities: NDArray[np.float32]
    ordinary: NDArray[np.float32]


def retrieve(
    dialogue_vectors: Vectors,
    item_vectors: Vectors,
    number: int = 50,
    *,
    exclude: Sequence[Iterable[int]] | None = None,
    block: int | None = None,
) -> Retrieved:
    """Find the items most similar to each dialogue.

    Args:
        dialogue_vectors: `(D, d)` unit vectors, dense or CSR.
        item_vectors: `(N, d)` unit vectors of the same encoder.
        number: M, items per dialogue; all N where the catalogue is not larger.
        exclude: per dialogue the ids that must not be retrieved, such as what the user has seen; -1 excludes nothing.
        block: dialogues at a time; by default as many as hold 64 MiB of similarities.

    Returns:
        The items. What has no similarity above 0 to a dialogue is never among them.

    Raises:
        ValueError: if the vectors are of different encoders or not finite, `number` or `block` is below 1, or `exclude`
            has another number of rows or an id that is outside the catalogue.

    Example:
        >>> retrieve(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), number=1).items
        array([[0],
               [1]])

    Source: arXiv 2508.05657, data synthesis: the 50 items of the largest inner product.
    """
    num_dialogues, num_items = dialogue_vectors.shape[0], item_vectors.shape[0]
    block = max(1, BLOCK_SIMILARITIES // max(num_items, 1)) if block is None else block
    if number < 1 or block < 1:
        raise ValueError(f"number is {number} and block is {block}; both are at least 1")
    if exclude is not None and len(exclude) != num_dialogues:
        raise ValueError(f"exclude has {len(exclude)} rows for {num_dialogues} dialogues; give one for each")
    number = min(number, num_items)
    items = np.full((num_dialogues, number), -1, dtype=np.int64)
    found = np.zeros((num_dialogues, number), dtype=np.float32)
    ordinary = np.zeros(num_dialogues, dtype=np.float32)
    for start in range(0, num_dialogues, block):
        similarities = similarity(dialogue_vectors[start : start + block], item_vectors)
        if not np.isfinite(similarities).all():
            raise ValueError("vectors hold NaN or infinite numbers; check the encoder")
        ordinary[start : start + block] = similarities.mean(axis=1)
        for row, values in enumerate(similarities, start=start):
            if exclude is not None:
                values[_excluded(exclude[row], row, num_items)] = 0.0
            best = _nearest(values, number)
            items[row, : len(best)], found[row, : len(best)] = best, values[best]
    return Retrieved(items, found, ordinary)


def _excluded(items: Iterable[int], row: int, num_items: int) -> list[int]:
    known = [item for item in items if item >= 0]
    if known and max(known) >= num_items:
        raise ValueError(f"exclude[{row}] has item {max(known)}, the catalogue ids 0 to {num_items - 1}; -1 is no item")
    return known


def _nearest(similarities: NDArray[Any], number: int) -> NDArray[np.int64]:
    """At most `number` columns that are similar at all, most similar first."""
    best = top_columns(similarities, number)
    best = best[np.argsort(-similarities[best], kind="stable")]
    return best[similarities[best] > 0]
