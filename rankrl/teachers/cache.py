"""Answers that have arrived are never paid for twice: one sqlite file, safe with many threads and processes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rankrl.teachers.protocol import Answer, TeacherError
from rankrl.teachers.shard_file import read_answers, shard_files

SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok', 'empty', 'refused')),
    text TEXT,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    finish_reason TEXT
)
"""
_COLUMNS = "text, status, prompt_tokens, completion_tokens, finish_reason"
_INSERT = f"INSERT OR IGNORE INTO answers (key, model, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
_KEYS_PER_QUERY = 500  # sqlite allows 999 variables in old builds
_POLL_SECONDS = 0.05  # how often to look whether another process has finished with a request


class CacheError(TeacherError):
    """The cache file cannot be used."""


def request_key(body: Mapping[str, Any]) -> str:
    """The name of a request: sha256 over model, messages and parameters, whatever the order of the fields.

    Neither the API key nor the server is part of it, so a cache may be shared, and a local server may change its port.
    """
    text = json.dumps(body, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()  # messages may hold half an emoji


class AnswerCache:
    """Answers by request, on disk.

    Every answer is committed as it arrives, so a process may be killed at any moment. The cache may be open in several
    processes of one machine (each opens its own: do not carry one across a fork), and in all threads of each. Use a
    local disk: sqlite's write-ahead log does not work on network file systems. Shards of a run on several machines keep
    their answers in files of their own (`ShardCache`), which are taken in when the cache is opened.

    Args:
        path: the sqlite file, made if it is missing. `<path>.lock` beside it holds the claims.

    Raises:
        CacheError: if the file is damaged or something else.

    Example:
        >>> cache = AnswerCache("runs/teacher.sqlite")
        >>> key = request_key({"model": "m", "messages": [{"role": "user", "content": "A film?"}]})
        >>> with cache.claim(key):
        ...     if key not in cache.get([key]):
        ...         cache.put(key, "m", Answer.of("Heat (1995)"))
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._access = threading.Lock()
        self._claimed: set[str] = set()
        self._released = threading.Condition()
        self._lock_file = open(f"{self.path}.lock", "ab")  # noqa: SIM115 - open as long as the cache is
        with self.claim("open"), self._explained():
            self._connection = sqlite3.connect(
                self.path, timeout=60, isolation_level=None, check_same_thread=False, cached_statements=16
            )
            self._prepare()
            self.take_in(shard_files(self.path))

    def get(self, keys: Sequence[str]) -> dict[str, Answer]:
        """The answers that are there, by key; all of them are marked `cached`."""
        found: dict[str, Answer] = {}
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            some = keys[start : start + _KEYS_PER_QUERY]
            marks = ", ".join("?" * len(some))
            with self._access, self._explained():
                rows = self._connection.execute(
                    f"SELECT key, {_COLUMNS} FROM answers WHERE key IN ({marks})", tuple(some)
                ).fetchall()
            found |= {
                key: Answer(text, status, prompt_tokens, completion_tokens, True, finish_reason)
                for key, text, status, prompt_tokens, completion_tokens, finish_reason in rows
            }
        return found

    def put(self, key: str, model: str, answer: Answer) -> None:
        """Keep an answer, on disk when this returns. The first answer to a request stays."""
        with self._access, self._explained():
            self._connection.execute(_INSERT, _row(key, model, answer))

    def take_in(self, files: Sequence[Path]) -> None:
        """Add the answers that shards have kept."""
        for path in files:
            with self._access, self._explained():
                self._connection.execute("BEGIN IMMEDIATE")
                with self._connection:  # commits
                    self._connection.executemany(_INSERT, (_row(*kept) for kept in read_answers(path)))

    def __len__(self) -> int:
        with self._access, self._explained():
            return self._connection.execute("SELECT count(*) FROM answers").fetchone()[0]

    @contextmanager
    def claim(self, key: str) -> Iterator[None]:
        """Hold a request alone, among the threads of this process and among all processes on this machine.

        Whoever waited looks into the cache first. The operating system drops the claims of a process that ends, however
        it ends, so nothing has to expire.
        """
        with self._released:
            self._released.wait_for(lambda: key not in self._claimed)
            self._claimed.add(key)
        place = int(hashlib.sha256(key.encode()).hexdigest()[:14], 16)  # one byte of the lock file; it need not exist
        try:
            self._lock_byte(place)
            try:
                yield
            finally:
                fcntl.lockf(self._lock_file, fcntl.LOCK_UN, 1, place)
        finally:
            with self._released:
                self._claimed.discard(key)
                self._released.notify_all()

    def close(self) -> None:
        """Close the files. Not needed before a process ends."""
        self._connection.close()
        self._lock_file.close()

    def _lock_byte(self, place: int) -> None:
        # Asked again and again, as the kernel would take two processes that wait for each other's requests, each in
        # another thread, for a deadlock.
        while True:
            try:
                return fcntl.lockf(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except (BlockingIOError, PermissionError):  # POSIX allows EAGAIN and EACCES
                time.sleep(_POLL_SECONDS)

    def _prepare(self) -> None:
        connection = self._connection
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "answers" not in tables:
            raise CacheError(f"{self.path} is a database of another program; name another file for the answers")
        (health,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if health != "ok":
            raise sqlite3.DatabaseError(" ".join(health.split()))
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # an answer costs more than a write to disk
        connection.execute(SCHEMA)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise CacheError(
                f"cannot use the answer cache {self.path}: {error}. Is the disk full, the file read-only, or on a "
                "network file system?"
            ) from error
        except sqlite3.DatabaseError as error:
            aside = f"{self.path}.damaged"
            raise CacheError(
                f"the answer cache {self.path} is damaged or no sqlite file ({error}). Put it aside, with its -wal and "
                f"-shm files: mv {self.path} {aside}. The next run then starts an empty one and asks those requests "
                f"again. The sqlite shell may save what it held: sqlite3 {aside} .recover | sqlite3 {self.path}"
            ) from error


def _row(key: str, model: str, answer: Answer) -> tuple[Any, ...]:
    columns = (answer.text, answer.status, answer.prompt_tokens, answer.completion_tokens, answer.finish_reason)
    return (key, model, *columns)
