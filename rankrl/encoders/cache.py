"""Vectors on disk, so that each text is encoded once."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankrl.encoders.protocol import CacheableEncoder, check_texts
from rankrl.shards import CHUNK, Parts, Shard, local_copy


class CachedEncoder:
    """Keeps an encoder's vectors in an sqlite3 file, so that each text is encoded once.

    A vector is found by the hash of the encoder's identity and the text: a changed catalogue encodes only what changed,
    and another model or prompt never meets these vectors. What was encoded is written every `CHUNK` texts, so an
    interrupted run goes on there; several processes of one machine may use one file. Shards of a run on several
    machines write to `<path>.shards` beside it, and the run without a shard takes their vectors in.

    Args:
        encoder: whose vectors depend on the text alone (not TF-IDF, whose vectors depend on all texts).
        path: the file; made where there is none.
        shard: encode the share of one shard.

    Raises:
        TypeError: if the encoder has no `identity`.
    """

    CHUNK = CHUNK

    def __init__(self, encoder: CacheableEncoder, path: str | os.PathLike[str], shard: Shard | None = None) -> None:
        if not hasattr(encoder, "identity"):
            raise TypeError(
                f"{type(encoder).__name__} has no identity, so its vectors cannot be cached; use it as it is. (TF-IDF "
                "vectors depend on all texts it was fitted on.)"
            )
        self.name = encoder.name
        self.identity = encoder.identity
        self._encoder = encoder
        self._path = Path(path)
        self._parts = Parts(Path(f"{self._path}.shards"), shard)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The texts as dense vectors, encoding those that are new.

        Raises:
            ValueError: if the file is none of ours, or damaged.
            OtherShards: for a shard, if the others' vectors are not there yet; its share is.
        """
        keys = [self._key(text) for text in check_texts(texts)]
        distinct = dict(zip(keys, texts, strict=True))
        if self._parts.shard is None:
            vectors = self._encode_all(distinct)
        else:
            with TemporaryDirectory(prefix="rankrl-vectors-") as folder, self._database(folder) as database:
                vectors = _read(database, list(distinct))
            if left := [key for key in distinct if key not in vectors]:
                (new,) = self._parts.shared(
                    [key.hex() for key in left],
                    lambda places: (self._vectors([distinct[left[at]] for at in places]),),
                    "vectors",
                )
                vectors.update(zip(left, new, strict=True))
        return np.stack([vectors[key] for key in keys])

    def _encode_all(self, distinct: Mapping[bytes, str]) -> dict[bytes, NDArray[np.float32]]:
        """The vectors of texts by their keys: kept, made by shards, or new."""
        with self._database() as database:
            vectors = _read(database, list(distinct))
            if made := self._parts.read([key.hex() for key in distinct if key not in vectors]):
                _write(database, new := {bytes.fromhex(key): vector for key, (vector,) in made.items()})
                vectors.update(new)
            missing = [key for key in distinct if key not in vectors]
            for start in range(0, len(missing), self.CHUNK):
                chunk = missing[start : start + self.CHUNK]
                new = dict(zip(chunk, self._vectors([distinct[key] for key in chunk]), strict=True))
                _write(database, new)
                vectors.update(new)
        return vectors

    def _vectors(self, texts: list[str]) -> NDArray[np.float32]:
        return np.asarray(self._encoder.encode(texts), dtype="<f4")

    @contextmanager
    def _database(self, copied_to: str | None = None) -> Iterator[sqlite3.Connection]:
        """The file, or a copy of it for a shard, which must not open it."""
        try:
            path = self._path if copied_to is None else local_copy(self._path, copied_to)
            with closing(sqlite3.connect(path, timeout=60)) as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
                yield database
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{self._path} cannot be used as a cache of vectors: {error}. If it is damaged or another program's "
                "file, delete it or name another; vectors can always be made anew."
            ) from error

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.identity}\0{text}".encode()).digest()


def _write(database: sqlite3.Connection, vectors: Mapping[bytes, NDArray[np.float32]]) -> None:
    with database:
        rows = [(key, vector.tobytes()) for key, vector in vectors.items()]
        database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)


def _read(database: sqlite3.Connection, keys: Sequence[bytes], at_once: int = 500) -> dict[bytes, NDArray[np.float32]]:
    found: dict[bytes, NDArray[np.float32]] = {}
    for start in range(0, len(keys), at_once):
        part = keys[start : start + at_once]
        marks = ", ".join("?" * len(part))
        rows: Any = database.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part)
        found.update((key, np.frombuffer(vector, dtype="<f4")) for key, vector in rows)
    return found
