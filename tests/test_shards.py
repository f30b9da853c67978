"""Shares of work: every piece is somebody's, nobody's twice, and what was made is found whoever made it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.shards import OtherShards, Parts, Shard, digest, local_copy

TEXTS = [f"text {number % 5}" for number in range(7)]  # two of them twice
KEYS = [digest(text) for text in TEXTS]


class Work:
    """Makes the length and the letters' codes of texts, and remembers which."""

    def __init__(self, texts: list[str] = TEXTS) -> None:
        self.texts, self.made = texts, []

    def __call__(self, places: list[int]) -> tuple[np.ndarray, np.ndarray]:
        texts = [self.texts[place] for place in places]
        self.made += texts
        codes = np.array([[ord(text[-1]), ord(text[0])] for text in texts], dtype=np.float32)
        return np.array([int(text[-1]) for text in texts]), codes


def check(rows: tuple[np.ndarray, ...]) -> None:
    numbers, codes = rows
    assert numbers.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert codes.dtype == np.float32
    assert codes[:, 0].tolist() == [ord(text[-1]) for text in TEXTS]


@given(st.integers(0, 50), st.integers(1, 9))
def test_every_piece_is_one_shards(pieces: int, number: int) -> None:
    shares = [Shard.parse(f"{place}/{number}").of(range(pieces)) for place in range(1, number + 1)]
    assert sorted(piece for share in shares for piece in share) == list(range(pieces))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "1/0", "-1/3", "1/2/3", "a/b", "1.0/2"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(ValueError, match=r"--arm is .*; expected i/n with i from 1 to n"):
        Shard.parse(text, "--arm")


def test_shards_make_their_share_and_wait_for_the_rest(tmp_path: Path) -> None:
    first, second, last = Work(), Work(), Work()
    with pytest.raises(OtherShards, match=r"shard 1/2 has done its share, and waits for 2 vectors of the other"):
        Parts(tmp_path, Shard(1, 2)).shared(KEYS, first, "vectors")
    assert first.made == ["text 0", "text 2", "text 4"]
    check(Parts(tmp_path, Shard(2, 2)).shared(KEYS, second, "vectors"))
    assert second.made == ["text 1", "text 3"]
    check(Parts(tmp_path, Shard(1, 2)).shared(KEYS, first, "vectors"))
    check(Parts(tmp_path).own(KEYS, last))
    assert (len(first.made), last.made) == (3, [])


def test_the_run_that_finishes_makes_what_is_missing_and_keeps_nothing(tmp_path: Path) -> None:
    Parts(tmp_path, Shard(2, 3)).own(KEYS[1:2], Work(TEXTS[1:2]))
    files = sorted(tmp_path.iterdir())
    for _ in range(2):
        last = Work()
        check(Parts(tmp_path).shared(KEYS, last, "vectors"))
        assert last.made == ["text 0", "text 2", "text 3", "text 4"]
    assert sorted(tmp_path.iterdir()) == files


def test_another_number_of_shards_uses_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(OtherShards):
        Parts(tmp_path, Shard(1, 2)).shared(KEYS, Work(), "vectors")
    again = Work()
    check(Parts(tmp_path, Shard(1, 1)).shared(KEYS, again, "vectors"))
    assert again.made == ["text 1", "text 3"]


def test_a_killed_shard_keeps_whole_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rankrl.shards.CHUNK", 2)
    work = Work()

    def killed(places: list[int]) -> tuple[np.ndarray, ...]:
        if len(work.made) == 4:
            raise KeyboardInterrupt
        return work(places)

    with pytest.raises(KeyboardInterrupt):
        Parts(tmp_path, Shard(1, 1)).own(KEYS, killed)
    (tmp_path / "1-of-1.abc.npz.9.part").write_bytes(b"half a fi")  # what a kill while writing leaves
    again = Work()
    check(Parts(tmp_path, Shard(1, 1)).own(KEYS, again))
    assert again.made == ["text 4"]


def test_a_copy_of_a_database_holds_what_is_still_in_its_log(tmp_path: Path) -> None:
    there, here = tmp_path / "there.sqlite", tmp_path / "here"
    here.mkdir()
    assert not local_copy(there, str(here)).exists(), "there is nothing to copy"
    writer = sqlite3.connect(there, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE answers (text)")
    writer.execute("INSERT INTO answers VALUES ('Heat')")
    reader = sqlite3.connect(local_copy(there, str(here)))  # the writer, killed perhaps, has not emptied its log
    assert reader.execute("SELECT text FROM answers").fetchall() == [("Heat",)]
    reader.close()
    writer.close()
