"""The cache: what has arrived is never asked again, whoever is killed, and however many processes ask."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankrl.teachers import Answer, AnswerCache, CacheError
from rankrl.teachers.cache import request_key
from tests.teachers.server import ChatServer, Reply, echo, serving

REPOSITORY = Path(__file__).resolve().parents[2]
COUNT, CONCURRENCY = 40, 4
QUESTIONS = {f"question {number}" for number in range(COUNT)}


def start(server: ChatServer, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.teachers.ask_many", server.url, str(cache), str(COUNT), str(CONCURRENCY)],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": "."}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@pytest.mark.parametrize("kill_at", [1, 13, 30])
def test_a_killed_run_asks_again_only_what_was_under_way(tmp_path: Path, kill_at: int) -> None:
    """Two bounds: no answer that is in the cache is asked again, and at most `concurrency` requests are asked twice.

    The second run has a server of its own, so that what the killed one still had in the wire is not mistaken for it.
    """
    reached = threading.Event()

    def slow(body: dict, attempt: int) -> Reply:
        if len(server.calls) > kill_at:
            reached.set()
        return Reply(echo(body, attempt).body, delay=0.05)

    with serving(slow) as server, serving() as other:
        process = start(server, tmp_path / "answers.sqlite")
        assert reached.wait(timeout=60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL

        connection = sqlite3.connect(tmp_path / "answers.sqlite")
        kept = {text.removeprefix("answer to ") for (text,) in connection.execute("SELECT text FROM answers")}
        connection.close()
        assert len(kept) < COUNT

        finish(start(other, tmp_path / "answers.sqlite"))
        first, second = Counter(server.asked()), Counter(other.asked())
        assert second == Counter(QUESTIONS - kept)  # each once, and none that was kept
        assert kept <= set(first)
        assert len((first & second).keys()) <= CONCURRENCY
        assert kill_at < first.total() <= len(kept) + CONCURRENCY
        assert COUNT <= first.total() + second.total() <= COUNT + CONCURRENCY


def test_two_processes_on_one_cache_ask_everything_once(tmp_path: Path) -> None:
    with serving(lambda body, attempt: Reply(echo(body, attempt).body, delay=0.02)) as server:
        processes = [start(server, tmp_path / "answers.sqlite") for _ in range(2)]
        for process in processes:
            finish(process)
        assert Counter(server.asked()) == Counter(QUESTIONS)


def test_a_claim_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    program = f"""
from rankrl.teachers import AnswerCache
with AnswerCache({str(path)!r}).claim("key"):
    print("held", flush=True)
    import time; time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    cache = AnswerCache(path)
    order = []

    def claim() -> None:
        with cache.claim("key"):
            order.append("claimed")

    with cache.claim("another key"):
        pass
    waiting = threading.Thread(target=claim)
    waiting.start()
    order.append("killed")
    process.kill()
    process.communicate()
    waiting.join(timeout=60)
    assert order == ["killed", "claimed"]


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "deep" / "answers.sqlite")
    answers = {
        "a": Answer.of("Amélie (2001)\n\u2028 \x00 Heat", prompt_tokens=3, completion_tokens=5, finish_reason="length"),
        "b": Answer.of(None, refused=True),
        "c": Answer.of(""),
    }
    for key, answer in answers.items():
        cache.put(key, "m", answer)
    cache.put("a", "m", Answer.of("a later answer"))
    found = AnswerCache(cache.path).get(["c", "a", "b", "d"])
    assert {
        key: (a.text, a.status, a.prompt_tokens, a.completion_tokens, a.finish_reason) for key, a in found.items()
    } == {key: (a.text, a.status, a.prompt_tokens, a.completion_tokens, a.finish_reason) for key, a in answers.items()}
    assert all(answer.cached for answer in found.values())
    assert len(cache) == 3


def test_thousands_of_keys_at_once(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite")
    cache.put("7", "m", Answer.of("seven"))
    assert set(cache.get([str(number) for number in range(3000)])) == {"7"}
    assert cache.get([]) == {}


bodies = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=5), st.none()), max_size=5)


@given(bodies, bodies)
def test_keys_tell_requests_apart_whatever_the_order_of_their_fields(one: dict, other: dict) -> None:
    assert (request_key(one) == request_key(other)) == (one == other)
    assert request_key(dict(reversed(one.items()))) == request_key(one)


def test_keys_of_half_characters() -> None:
    known = "58410f9104b5528839300d10a9f78c7ede03f68ab853fbc37ad901b299de9bf0"
    assert request_key({"n": "é🎬"}) == known, "keys of caches that are there stay as they are"
    assert request_key({"n": "\ud83d"}) != request_key({"n": "\ud83c"})


@pytest.mark.parametrize("damage", ["text", "header", "middle", "truncated"])
def test_a_damaged_file_is_refused_with_the_way_out(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "answers.sqlite"
    cache = AnswerCache(path)
    for number in range(300):
        cache.put(request_key({"n": number}), "m", Answer.of("text " * 40))
    cache.close()
    content = path.read_bytes()
    assert len(content) > 50_000
    half = len(content) // 2
    path.write_bytes(
        {
            "text": b"half a line of something else, long enough to be looked at by sqlite",
            "header": b"\0" * 50 + content[50:],
            "middle": content[:half] + b"\x07" * 8000 + content[half + 8000 :],
            "truncated": content[: half - half % 4096 - 100],
        }[damage]
    )
    with pytest.raises(CacheError, match=r"answers\.sqlite is damaged or no sqlite file.*mv .*asks those.*\.recover"):
        AnswerCache(path)


def test_a_file_that_was_made_but_never_written_is_an_empty_cache(tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").touch()
    assert len(AnswerCache(tmp_path / "answers.sqlite")) == 0


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "other.sqlite")
    connection.execute("CREATE TABLE photos (name)")
    connection.commit()
    connection.close()
    before = (tmp_path / "other.sqlite").read_bytes()
    with pytest.raises(CacheError, match="another program"):
        AnswerCache(tmp_path / "other.sqlite")
    assert (tmp_path / "other.sqlite").read_bytes() == before


def test_a_directory_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="cannot use the answer cache"):
        AnswerCache(tmp_path)
