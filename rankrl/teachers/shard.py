"""One shard's teacher: it asks its share of the requests, and keeps the answers where the other shards find them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rankrl.shards import OtherShards, Shard, local_copy
from rankrl.teachers.budget import Budget
from rankrl.teachers.cache import AnswerCache
from rankrl.teachers.cached import CachedTeacher
from rankrl.teachers.protocol import Answer, Messages
from rankrl.teachers.shard_file import AnswerFile, shard_file, shard_files


class ShardCache(AnswerCache):
    """The answers that a shard knows: those of earlier runs, of all shards up to now, and its own.

    The database is this process's own copy on the local disk; what is new goes to the shard's file beside the cache,
    which `AnswerCache` takes in. One process at a time may work on a shard, and none may write to the cache meanwhile.

    Args:
        path: the cache that the run without shards will use; need not exist.
        shard: which one.

    Attributes:
        path: the shard's file.

    Raises:
        CacheError: as `AnswerCache`.
    """

    def __init__(self, path: str | Path, shard: Shard) -> None:
        self._folder = TemporaryDirectory(prefix="rankrl-answers-")
        super().__init__(local_copy(Path(path), self._folder.name))
        self.take_in(shard_files(Path(path)))
        self.path = shard_file(Path(path), shard)
        self._file = AnswerFile(self.path)

    def put(self, key: str, model: str, answer: Answer) -> None:
        """Keep an answer, on the shared disk when this returns."""
        self._file.add(key, model, answer)
        super().put(key, model, answer)

    def close(self) -> None:
        """Close the files, and remove the copy."""
        super().close()
        self._file.close()
        self._folder.cleanup()


class ShardTeacher:
    """Asks a shard's share of each list of requests.

    Args:
        teacher: who answers; its cache is a `ShardCache`.
        shard: whose share.

    Attributes:
        whole: the teacher itself, for requests that no other shard makes.
    """

    def __init__(self, teacher: CachedTeacher, shard: Shard) -> None:
        self.whole, self.shard, self.name = teacher, shard, teacher.name

    @property
    def budget(self) -> Budget:
        """The ledger of this shard."""
        return self.whole.budget

    def ask(self, requests: Sequence[Messages]) -> list[Answer]:
        """Answer many requests, which are the same and in one order for all shards.

        Raises:
            OtherShards: if some answers are not there yet; this shard's share is.
            TeacherError: if the teacher cannot go on.
        """
        distinct = {self.whole.key(messages): messages for messages in requests}
        if share := self.shard.of(list(distinct.values())):
            self.whole.ask(share)
        if missing := len(distinct) - len(self.whole.cache.get(list(distinct))):
            raise OtherShards(self.shard, missing, "answers")
        return self.whole.ask(requests)
