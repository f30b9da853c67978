"""Vectors on disk, so that each text is encoded once."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankrl.encoders.protocol import CacheableEncoder, check_texts


class CachedEncoder:
    """Keeps an encoder's vectors in an sqlite3 file, so that each text is encoded once.

    A vector is found by the hash of the encoder's identity and the text: a changed catalogue encodes only what changed,
    and another model or prompt never meets these vectors. What was encoded is written every `CHUNK` texts, so an
    interrupted run goes on there; several processes may use one file.

    Args:
        encoder: whose vectors depend on the text alone (not TF-IDF, whose vectors depend on all texts).
        path: the file; made where there is none.

    Raises:
        TypeError: if the encoder has no `identity`.
    """

    CHUNK = 1024

    def __init__(self, encoder: CacheableEncoder, path: str | os.PathLike[str]) -> None:
        if not hasattr(encoder, "identity"):
            raise TypeError(
                f"{type(encoder).__name__} has no identity, so its vectors cannot be cached; use it as it is. (TF-IDF "
                "vectors depend on all texts it was fitted on.)"
            )
        self.name = encoder.name
        self._encoder = encoder
        self._path = Path(path)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The texts as dense vectors, encoding those that are new.

        Raises:
            ValueError: if the file is none of ours, or damaged.
        """
        keys = [self._key(text) for text in check_texts(texts)]
        distinct = dict(zip(keys, texts, strict=True))
        try:
            with closing(sqlite3.connect(self._path, timeout=60)) as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
                vectors = _read(database, list(distinct))
                missing = [key for key in distinct if key not in vectors]
                for start in range(0, len(missing), self.CHUNK):
                    chunk = missing[start : start + self.CHUNK]
                    new = np.asarray(self._encoder.encode([distinct[key] for key in chunk]), dtype="<f4")
                    vectors.update(zip(chunk, new, strict=True))
                    rows = [(key, vector.tobytes()) for key, vector in zip(chunk, new, strict=True)]
                    with database:
                        database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{self._path} cannot be used as a cache of vectors: {error}. If it is damaged or another program's "
                "file, delete it or name another; vectors can always be made anew."
            ) from error
        return np.stack([vectors[key] for key in keys])

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self._encoder.identity}\0{text}".encode()).digest()


def _read(database: sqlite3.Connection, keys: Sequence[bytes], at_once: int = 500) -> dict[bytes, NDArray[np.float32]]:
    found: dict[bytes, NDArray[np.float32]] = {}
    for start in range(0, len(keys), at_once):
        part = keys[start : start + at_once]
        marks = ", ".join("?" * len(part))
        rows: Any = database.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part)
        found.update((key, np.frombuffer(vector, dtype="<f4")) for key, vector in rows)
    return found
