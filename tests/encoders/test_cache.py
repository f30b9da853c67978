from __future__ import annotations

import hashlib
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from rankrl.encoders import CachedEncoder, TfidfEncoder
from rankrl.shards import OtherShards, Shard


class CountingEncoder:
    """Vectors from a hash of the text; remembers what it was asked for."""

    name = "counting"

    def __init__(self, identity: str = "a", fail_at: str | None = None) -> None:
        self.identity = identity
        self.fail_at = fail_at
        self.asked: list[str] = []

    def encode(self, texts):
        if self.fail_at in texts:
            raise KeyboardInterrupt
        self.asked += texts
        digests = [hashlib.sha256(f"{self.identity}{text}".encode()).digest() for text in texts]
        vectors = np.stack([np.frombuffer(digest, dtype=np.uint8) for digest in digests]).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_each_text_is_encoded_once_and_comes_back_the_same(tmp_path) -> None:
    inner = CountingEncoder()
    cached = CachedEncoder(inner, tmp_path / "vectors.sqlite")
    texts = ["Heat", "Up", "Heat", ""]
    expected = CountingEncoder().encode(texts)
    np.testing.assert_array_equal(cached.encode(texts), expected)
    np.testing.assert_array_equal(CachedEncoder(inner, tmp_path / "vectors.sqlite").encode(texts), expected)
    assert inner.asked == ["Heat", "Up", ""]
    assert cached.encode(texts).dtype == np.float32
    assert cached.name == "counting"


def test_a_changed_catalogue_encodes_only_what_changed(tmp_path) -> None:
    inner = CountingEncoder()
    cached = CachedEncoder(inner, tmp_path / "vectors.sqlite")
    catalogue = [f"Film {number}" for number in range(2500)]
    cached.encode(catalogue)
    inner.asked.clear()
    catalogue[7], catalogue[1200:1202] = "Film 7, director's cut", []
    np.testing.assert_array_equal(
        cached.encode([*catalogue, "A new film"]), CountingEncoder().encode([*catalogue, "A new film"])
    )
    assert inner.asked == ["Film 7, director's cut", "A new film"]


def test_another_model_never_meets_these_vectors(tmp_path) -> None:
    CachedEncoder(CountingEncoder("a"), tmp_path / "vectors.sqlite").encode(["Heat"])
    other = CountingEncoder("b")
    vectors = CachedEncoder(other, tmp_path / "vectors.sqlite").encode(["Heat"])
    assert other.asked == ["Heat"]
    np.testing.assert_array_equal(vectors, CountingEncoder("b").encode(["Heat"]))


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(CachedEncoder, "CHUNK", 2)
    texts = list("abcde")
    with pytest.raises(KeyboardInterrupt):
        CachedEncoder(CountingEncoder(fail_at="e"), tmp_path / "vectors.sqlite").encode(texts)
    inner = CountingEncoder()
    np.testing.assert_array_equal(
        CachedEncoder(inner, tmp_path / "vectors.sqlite").encode(texts), CountingEncoder().encode(texts)
    )
    assert inner.asked == ["e"]


def encode_in_process(path: str, start: int) -> None:
    CachedEncoder(CountingEncoder(), path).encode([f"Film {number}" for number in range(start, start + 3000)])


def test_several_processes_use_one_file(tmp_path) -> None:
    path = str(tmp_path / "vectors.sqlite")
    processes = [
        multiprocessing.get_context("spawn").Process(target=encode_in_process, args=(path, 1000 * n)) for n in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    inner = CountingEncoder()
    CachedEncoder(inner, path).encode([f"Film {number}" for number in range(5000)])
    assert inner.asked == []


def test_shards_encode_their_share_and_open_no_database(tmp_path) -> None:
    path, texts = tmp_path / "vectors.sqlite", list("abcdea")
    CachedEncoder(CountingEncoder(), path).encode(["b"])  # an earlier run
    before = path.read_bytes()
    first, second, last = CountingEncoder(), CountingEncoder(), CountingEncoder()
    with pytest.raises(OtherShards, match="shard 1/2 has done its share, and waits for 2 vectors"):
        CachedEncoder(first, path, Shard(1, 2)).encode(texts)
    expected = CountingEncoder().encode(texts)
    np.testing.assert_array_equal(CachedEncoder(second, path, Shard(2, 2)).encode(texts), expected)
    assert (first.asked, second.asked) == (["a", "d"], ["c", "e"])
    assert path.read_bytes() == before
    for _ in range(2):
        np.testing.assert_array_equal(CachedEncoder(last, path).encode(texts), expected)
        for part in (tmp_path / "vectors.sqlite.shards").glob("*"):
            part.unlink()  # what was taken in is in the file
    assert last.asked == []


def test_tfidf_is_not_cached(tmp_path) -> None:
    with pytest.raises(TypeError, match="TfidfEncoder has no identity"):
        CachedEncoder(TfidfEncoder.fit(["Heat"]), tmp_path / "vectors.sqlite")


@pytest.mark.parametrize("content", [b"not a database, but long enough to be looked at as one", None])
def test_a_file_that_is_no_cache(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "vectors.sqlite"
    if content is None:  # half of a cache
        CachedEncoder(CountingEncoder(), path).encode([f"Film {number}" for number in range(500)])
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"vectors.sqlite cannot be used as a cache of vectors: .* delete it"):
        CachedEncoder(CountingEncoder(), path).encode([f"Film {number}" for number in range(500)])


def test_a_directory_that_is_not_there(tmp_path) -> None:
    with pytest.raises(ValueError, match="unable to open database file"):
        CachedEncoder(CountingEncoder(), tmp_path / "missing" / "vectors.sqlite").encode(["Heat"])
