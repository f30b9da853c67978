"""Texts as vectors of unit length, so that an inner product is a cosine similarity. Needs `rankrl[embeddings]`.

A text with nothing in it (white space, or for TF-IDF no word and no spelling of the texts it was fitted on) gets the
zero vector: it is similar to nothing.
"""

from typing import TYPE_CHECKING

from rankrl.lazy import lazy_exports

if TYPE_CHECKING:
    from rankrl.encoders.cache import CachedEncoder as CachedEncoder
    from rankrl.encoders.protocol import CacheableEncoder as CacheableEncoder
    from rankrl.encoders.protocol import Encoder as Encoder
    from rankrl.encoders.protocol import Vectors as Vectors
    from rankrl.encoders.protocol import similarity as similarity
    from rankrl.encoders.sentence_transformer import SentenceTransformerEncoder as SentenceTransformerEncoder
    from rankrl.encoders.tfidf import TfidfEncoder as TfidfEncoder

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "cache": ["CachedEncoder"],
        "protocol": ["CacheableEncoder", "Encoder", "Vectors", "similarity"],
        "sentence_transformer": ["SentenceTransformerEncoder"],
        "tfidf": ["TfidfEncoder"],
    },
)
