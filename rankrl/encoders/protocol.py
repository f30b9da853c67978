"""What an encoder is, and what its vectors are for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Vectors: TypeAlias = "NDArray[np.float32] | csr_array"
"""`(n, d)` float32, rows of unit length or zero; dense, or CSR from TF-IDF."""


class Encoder(Protocol):
    """What turns texts into vectors. `name` is what cards and manifests call it."""

    @property
    def name(self) -> str: ...

    def encode(self, texts: Sequence[str]) -> Vectors: ...


class CacheableEncoder(Encoder, Protocol):
    """An encoder whose vector of a text depends on nothing but the text and `identity`."""

    @property
    def identity(self) -> str: ...


def similarity(first: Vectors, second: Vectors) -> NDArray[np.float32]:
    """Cosine similarities of vectors of one encoder.

    Args:
        first: `(n, d)` vectors, dense or CSR.
        second: `(m, d)` vectors of the same kind.

    Returns:
        `(n, m)` dense float32, in [-1, 1]; 0 beside a zero vector.

    Raises:
        ValueError: if the vectors are of different encoders.
    """
    dense = isinstance(first, np.ndarray), isinstance(second, np.ndarray)
    if dense[0] != dense[1] or first.shape[1:] != second.shape[1:]:
        raise ValueError(f"vectors {first.shape} and {second.shape} come from different encoders; encode both with one")
    product: Any = first @ second.T
    return np.asarray(product if dense[0] else product.toarray(), dtype=np.float32)


def check_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list.

    Raises:
        TypeError: if it is a single text.
        ValueError: if there is none.
    """
    if isinstance(texts, str):
        raise TypeError(f"texts is one text, {texts[:40]!r}; expected a list of texts")
    if not len(texts):
        raise ValueError("there is no text to encode; expected at least one")
    return list(texts)


def has_content(text: str) -> bool:
    """Whether there is more than white space."""
    return bool(text.strip())
