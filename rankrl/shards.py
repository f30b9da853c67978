"""One run as several processes on several machines: who does what, and where it lies until all of it is there.

A shard does its share of every slow step and keeps it in files that no other process writes; so any shared file system
will do. Where a step needs what other shards have not done yet, the shard stops (`OtherShards`), and goes on when it is
started again. The same run without a shard finds all that was kept, and finishes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from catalog.files import whole_file

T = TypeVar("T")
Rows = tuple[NDArray[Any], ...]
"""Arrays whose first dimensions agree: row i of each belongs to piece i of the work."""

CHUNK = 1024  # pieces of work between two writes: what a kill may cost


class OtherShards(Exception):
    """The next step needs what other shards have not done yet."""

    def __init__(self, shard: Shard, missing: int, what: str) -> None:
        super().__init__(
            f"shard {shard} has done its share, and waits for {missing:,} {what} of the other shards. When they have "
            "ended, start all shards again: nothing is done twice."
        )


@dataclass(frozen=True)
class Shard:
    """The i-th of n equal shares, counted from 1.

    Example:
        >>> Shard.parse("2/3").of(["a", "b", "c", "d", "e"])
        ['b', 'e']
    """

    place: int
    number: int

    @classmethod
    def parse(cls, text: str, name: str = "--shard") -> Shard:
        """Read `i/n`.

        Args:
            text: such as `3/12`.
            name: the option that holds it, for the error.

        Raises:
            ValueError: for a text that is not `i/n` with 1 <= i <= n.
        """
        place, _, number = text.partition("/")
        if not (place.isdecimal() and number.isdecimal() and 1 <= int(place) <= int(number)):
            raise ValueError(f"{name} is {text!r}; expected i/n with i from 1 to n, such as 3/12.")
        return cls(int(place), int(number))

    @property
    def rows(self) -> slice:
        """Every n-th row from the i-th on."""
        return slice(self.place - 1, None, self.number)

    def of(self, pieces: Sequence[T]) -> list[T]:
        """This shard's share."""
        return list(pieces)[self.rows]

    def __str__(self) -> str:
        return f"{self.place}/{self.number}"

    @property
    def name(self) -> str:
        """As in the names of files."""
        return f"{self.place}-of-{self.number}"


@dataclass(frozen=True)
class Parts:
    """What shards have made: rows of arrays, each found by the hash of what it was made of.

    A file appears when it is complete, and has one writer. So a shard that is killed loses `CHUNK` pieces at most, and
    another number of shards uses what is there.

    Args:
        folder: where the files lie; need not exist.
        shard: whose share to make; None for the run that finishes: it reads the files and writes none.
    """

    folder: Path
    shard: Shard | None = None

    def own(self, keys: Sequence[str], make: Callable[[list[int]], Rows]) -> Rows:
        """The rows of these keys: those that are kept, the others made.

        Args:
            keys: n hashes (`digest`), one for each piece of work; at least one.
            make: places in `keys` -> their rows.

        Returns:
            Arrays of n rows.
        """
        place = {key: at for at, key in reversed(list(enumerate(keys)))}
        found = self.read(place)
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            rows = make([place[key] for key in chunk])
            if self.shard is not None:
                self._write(self.shard, chunk, rows)
            found.update(zip(chunk, zip(*rows, strict=True), strict=True))
        return tuple(np.stack(column) for column in zip(*(found[key] for key in keys), strict=True))

    def shared(self, keys: Sequence[str], make: Callable[[list[int]], Rows], what: str) -> Rows:
        """As `own`, but of what is missing a shard makes its share only.

        Raises:
            OtherShards: if the other shards' share is not there yet; `what` says of what.
        """
        if (shard := self.shard) is not None:
            distinct = {key: at for at, key in reversed(list(enumerate(keys)))}
            if share := shard.of(list(dict.fromkeys(keys))):
                self.own(share, lambda places: make([distinct[share[at]] for at in places]))
            if missing := len(distinct) - len(self.read(distinct)):
                raise OtherShards(shard, missing, what)
        return self.own(keys, make)

    def read(self, keys: Iterable[str]) -> dict[str, tuple[Any, ...]]:
        """The rows that are kept, by key."""
        wanted, found = set(keys), {}
        for path in sorted(self.folder.glob("*.npz")) if wanted else ():
            with np.load(path, allow_pickle=False) as file:
                columns = [file[name] for name in sorted(file.files) if name != "keys"]
                for key, *row in zip(file["keys"].tolist(), *columns, strict=True):
                    if key in wanted:
                        found[key] = tuple(row)
        return found

    def _write(self, shard: Shard, keys: Sequence[str], rows: Rows) -> None:
        columns: dict[str, Any] = {f"column{at}": column for at, column in enumerate(rows)}
        with whole_file(self.folder / f"{shard.name}.{digest(keys)[:12]}.npz") as file:
            np.savez(file, keys=np.array(keys), **columns)


def digest(value: Any) -> str:
    """A hash of anything that JSON can hold, 32 hex digits."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]


def local_copy(database: Path, folder: str) -> Path:
    """A copy of an sqlite file, with what its log holds, in a folder on the local disk: sqlite and network file systems
    do not go together. The file need not exist, and nobody may write to it meanwhile.
    """
    copy = Path(folder) / database.name
    for suffix in ("", "-wal"):
        if (source := Path(f"{database}{suffix}")).is_file():
            shutil.copyfile(source, f"{copy}{suffix}")
    return copy
