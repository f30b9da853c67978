"""Texts compared by their words and spellings: no model, no download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rankrl.encoders.protocol import Vectors, check_texts, has_content

if TYPE_CHECKING:
    from sklearn.pipeline import FeatureUnion


class TfidfEncoder:
    """TF-IDF of words, pairs of words, and groups of three letters: no model, no download.

    Words carry what items are about, letters what a misspelt title has in common with the right one; both weigh the
    same. Made by `fit`. Its vectors depend on all texts it was fitted on, so they are not cached: a changed catalogue
    changes every one. It is fast enough to be fitted anew.
    """

    name = "tfidf"

    def __init__(self, features: FeatureUnion) -> None:
        self._features = features

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        *,
        words: tuple[int, int] = (1, 2),
        letters: tuple[int, int] | None = (3, 3),
        max_features: int | None = None,
    ) -> TfidfEncoder:
        """Learns the vocabulary and how rare each of its entries is.

        Args:
            texts: those to be compared, such as the catalogue's items and the teacher's titles.
            words: the fewest and the most words in a group.
            letters: the fewest and the most letters in a group within a word; None to leave spellings out.
            max_features: keep the most frequent ones only, of each kind; None keeps all.

        Raises:
            ValueError: if there is no word in the texts.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import FeatureUnion

        if not any(map(has_content, check_texts(texts))):
            raise ValueError(f"none of the {len(texts)} texts holds a word; TF-IDF learns its vocabulary from them")
        shared = {
            "strip_accents": "unicode",
            "sublinear_tf": True,
            "max_features": max_features,
            "dtype": np.float32,
        }
        # A word may have one letter, as in the films M and Z.
        kinds = [("words", TfidfVectorizer(ngram_range=words, token_pattern=r"(?u)\b\w+\b", **shared))]
        if letters is not None:
            kinds.append(("letters", TfidfVectorizer(analyzer="char_wb", ngram_range=letters, **shared)))
        return cls(FeatureUnion(kinds).fit(texts))

    def encode(self, texts: Sequence[str]) -> Vectors:
        """The texts as CSR vectors.

        Args:
            texts: n texts.

        Returns:
            `(n, d)` CSR float32, rows of unit length; a text without any known word or spelling is a zero row.
        """
        from scipy.sparse import csr_array
        from sklearn.preprocessing import normalize

        return csr_array(normalize(self._features.transform(check_texts(texts))), dtype=np.float32)
