"""Texts as vectors of unit length, so that an inner product is a cosine similarity. Needs `rankrl[embeddings]`.

A text with nothing in it (white space, or for TF-IDF no word and no spelling of the texts it was fitted on) gets the
zero vector: it is similar to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankrl.encoders.cache import CachedEncoder
    from rankrl.encoders.protocol import CacheableEncoder, Encoder, Vectors, similarity
    from rankrl.encoders.sentence_transformer import SentenceTransformerEncoder
    from rankrl.encoders.tfidf import TfidfEncoder

__all__ = [
    "CacheableEncoder",
    "CachedEncoder",
    "Encoder",
    "SentenceTransformerEncoder",
    "TfidfEncoder",
    "Vectors",
    "similarity",
]

_MODULES = {
    "CacheableEncoder": "protocol",
    "CachedEncoder": "cache",
    "Encoder": "protocol",
    "SentenceTransformerEncoder": "sentence_transformer",
    "TfidfEncoder": "tfidf",
    "Vectors": "protocol",
    "similarity": "protocol",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
