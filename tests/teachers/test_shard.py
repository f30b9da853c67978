"""Shards on one file system: each request is asked once, by whoever's share it is, and everybody finds the answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from rankrl.shards import OtherShards, Shard
from rankrl.teachers import Answer, AnswerCache, TeacherConfig, load_teacher
from rankrl.teachers.shard import ShardCache, ShardTeacher
from tests.teachers.server import ChatServer, serving

REQUESTS = [[{"role": "user", "content": f"question {number % 6}"}] for number in range(8)]  # two of them twice
TEXTS = [f"answer to question {number % 6}" for number in range(8)]


def teacher(server: ChatServer, folder: Path, shard: Shard | None) -> ShardTeacher:
    path = str(folder / "answers.sqlite")
    config = TeacherConfig(teacher_model="m", teacher_base_url=server.url, teacher_cache=path, teacher_retries=0)
    return load_teacher(config, shard=shard, quiet=True)  # type: ignore[return-value]


def test_each_request_is_asked_once(tmp_path: Path) -> None:
    with serving() as server:
        with pytest.raises(OtherShards, match="shard 1/3 has done its share, and waits for 4 answers"):
            teacher(server, tmp_path, Shard(1, 3)).ask(REQUESTS)
        assert sorted(server.asked()) == ["question 0", "question 3"]
        with pytest.raises(OtherShards, match="waits for 2 answers"):
            teacher(server, tmp_path, Shard(2, 3)).ask(REQUESTS)
        assert [answer.text for answer in teacher(server, tmp_path, Shard(3, 3)).ask(REQUESTS)] == TEXTS
        assert not (tmp_path / "answers.sqlite").exists(), "no database on the shared disk"
        for shard in (Shard(1, 3), Shard(4, 7), None):
            assert [answer.text for answer in teacher(server, tmp_path, shard).ask(REQUESTS)] == TEXTS
        assert Counter(server.asked()) == Counter(f"question {number}" for number in range(6))


def test_what_an_earlier_run_without_shards_asked_is_known(tmp_path: Path) -> None:
    with serving() as server:
        earlier = teacher(server, tmp_path, None)
        earlier.ask(REQUESTS[:2])  # its database is still open, and what it wrote is in the log beside it
        assert (tmp_path / "answers.sqlite-wal").stat().st_size > 0
        before = (tmp_path / "answers.sqlite").read_bytes()
        assert len(teacher(server, tmp_path, Shard(1, 1)).ask(REQUESTS)) == 8
        assert Counter(server.asked()) == Counter(f"question {number}" for number in range(6))
        assert (tmp_path / "answers.sqlite").read_bytes() == before


def test_answers_of_a_shard_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.sqlite"
    answers = {
        "a": Answer.of("Amélie (2001)\n\u2028 \x00 Heat", prompt_tokens=3, completion_tokens=5),
        "b": Answer.of(None, refused=True, finish_reason="content_filter"),
        "c": Answer.of(""),
    }
    shard = ShardCache(path, Shard(2, 4))
    for key, answer in answers.items():
        shard.put(key, "m", answer)
    shard.put("a", "m", Answer.of("a later answer"))
    shard.close()
    for cache in (AnswerCache(path), ShardCache(path, Shard(1, 4)), AnswerCache(path)):
        found = cache.get([*answers, "d"])
        assert found == {key: replace(answer, cached=True) for key, answer in answers.items()}


def test_half_a_character_does_not_close_the_cache(tmp_path: Path) -> None:
    """As written before `Answer.of` looked for it: a JSON escape that the database cannot keep."""
    path = tmp_path / "answers.sqlite"
    shard = ShardCache(path, Shard(1, 2))
    shard._file.add("a", "m", Answer("Up \ud83d", "ok"))
    shard._file.add("b", "m", Answer("Heat", "ok"))
    shard.close()
    for cache in (ShardCache(path, Shard(1, 2)), AnswerCache(path)):
        assert [answer.text for answer in cache.get(["a", "b"]).values()] == ["Up ?", "Heat"]


def test_an_answer_that_was_cut_short_is_asked_again(tmp_path: Path) -> None:
    with serving() as server:
        teacher(server, tmp_path, Shard(1, 1)).ask(REQUESTS)
        (path,) = tmp_path.glob("*.jsonl")
        path.write_text(path.read_text()[:-20])
        last = Counter(server.asked())
        assert [answer.text for answer in teacher(server, tmp_path, Shard(1, 1)).ask(REQUESTS)] == TEXTS
        assert (Counter(server.asked()) - last).total() == 1
        teacher(server, tmp_path, Shard(1, 1)).ask(REQUESTS)
        assert len(server.calls) == 7
