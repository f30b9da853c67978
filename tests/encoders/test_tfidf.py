from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array, issparse

from rankrl.encoders import TfidfEncoder, similarity

FILMS = [
    "Heat (1995)\nKeywords: heist, Los Angeles, police",
    "The Matrix (1999)\nKeywords: hacker, simulation, kung fu",
    "M (1931)\nKeywords: Berlin, murder, police",
    "Ratatouille (2007)\nKeywords: Paris, rat, cooking",
]


@pytest.fixture(scope="module")
def encoder() -> TfidfEncoder:
    return TfidfEncoder.fit(FILMS)


def test_rows_are_sparse_float32_of_unit_length(encoder) -> None:
    vectors = encoder.encode(FILMS)
    assert isinstance(vectors, csr_array)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.sqrt((vectors.toarray() ** 2).sum(axis=1)), 1, rtol=1e-6)


def test_words_and_letters_weigh_the_same_as_the_mean_of_their_cosines() -> None:
    words = TfidfEncoder.fit(FILMS, letters=None)
    both, texts = TfidfEncoder.fit(FILMS), [FILMS[0], FILMS[2]]
    letters_alone = 2 * pair(both, texts) - pair(words, texts)
    assert 0 < pair(words, texts) < 1
    assert 0 < letters_alone < 1


def pair(encoder, texts):
    vectors = encoder.encode(texts)
    return float(similarity(vectors[:1], vectors[1:])[0, 0])


@pytest.mark.parametrize(
    ("text", "film"), [("heat", 0), ("Teh Matrx", 1), ("m", 2), ("Ratatuile", 3), ("RÀTATOUILLE", 3), ("in Berlin", 2)]
)
def test_misspelt_titles_find_their_item(encoder, text, film) -> None:
    scores = similarity(encoder.encode([text]), encoder.encode(FILMS))[0]
    assert scores.argmax() == film
    assert scores[film] > 0


def test_nothing_known_is_a_zero_row(encoder) -> None:
    vectors = encoder.encode(["", "  \n", "ж"])
    assert issparse(vectors)
    assert vectors.nnz == 0
    assert similarity(vectors, encoder.encode(FILMS)).tolist() == [[0.0] * 4] * 3


def test_without_letters_a_misspelt_title_finds_nothing() -> None:
    assert TfidfEncoder.fit(FILMS, letters=None).encode(["Ratatuile"]).nnz == 0


def test_the_vocabulary_can_be_bounded() -> None:
    assert TfidfEncoder.fit(FILMS, max_features=10).encode(FILMS).shape == (4, 20)


def test_bad_texts(encoder) -> None:
    with pytest.raises(ValueError, match="none of the 2 texts holds a word"):
        TfidfEncoder.fit(["", " "])
    with pytest.raises(TypeError, match="texts is one text, 'Heat'"):
        encoder.encode("Heat")
    with pytest.raises(TypeError, match="texts is one text"):
        TfidfEncoder.fit("Heat")
    with pytest.raises(ValueError, match="no text to encode"):
        encoder.encode([])
