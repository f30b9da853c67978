"""The batch endpoint: submitted once, written down, collected by whoever runs next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rankrl.teachers import AnswerCache, BatchNotReady, Budget, BudgetExceeded, OpenAITeacher, TeacherError, batch
from tests.teachers.server import (
    KEY,
    KEY_VARIABLE,
    ChatServer,
    Reply,
    completion,
    echo,
    error,
    messages,
    numbered,
    serving,
)


def teacher_at(server: ChatServer, folder: Path, **settings: Any) -> OpenAITeacher:
    """A new teacher and a new cache object each time, as in a new process."""
    cache = AnswerCache(folder / "answers.sqlite")
    return OpenAITeacher("m", server.url, cache=cache, mode="batch", **{"retries": 0, "quiet": True, **settings})


def test_submit_wait_collect(tmp_path: Path) -> None:
    with serving() as server:
        with pytest.raises(BatchNotReady, match=r"5 of 5 requests.*batch_0 is in_progress \(0 of 5 done\)"):
            teacher_at(server, tmp_path).ask(numbered(5))
        assert "batch_0" in (tmp_path / "answers.sqlite.batches.json").read_text()
        with pytest.raises(BatchNotReady, match="batch_0 is in_progress"):
            teacher_at(server, tmp_path).ask(numbered(5))
        assert list(server.batches) == ["batch_0"]

        server.finish_batches()
        teacher = teacher_at(server, tmp_path)
        answers = teacher.ask(numbered(5)[::-1])
        assert [answer.text for answer in answers] == [f"answer to question {n}" for n in range(5)][::-1]
        assert (teacher.budget.usage.calls, teacher.budget.usage.tokens) == (5, 150)
        assert json.loads((tmp_path / "answers.sqlite.batches.json").read_text()) == []
        assert all(answer.cached for answer in teacher_at(server, tmp_path).ask(numbered(5)))
        assert len(server.batches) == 1
        assert not server.calls  # none of it went to the online endpoint


def test_what_is_submitted_is_what_would_be_sent_online(tmp_path: Path) -> None:
    with serving() as server:
        teacher = teacher_at(server, tmp_path, parameters={"top_p": 0.5})
        with pytest.raises(BatchNotReady):
            teacher.ask([messages("é\u2028")])
        (row,) = [json.loads(line) for line in server.files["file-0"].split("\n") if line]
        assert row == {
            "custom_id": teacher.key(messages("é\u2028")), "method": "POST", "url": "/v1/chat/completions",
            "body": teacher.body(messages("é\u2028")),
        }  # fmt: skip
        server.finish_batches()
        assert (
            teacher_at(server, tmp_path, parameters={"top_p": 0.5})
            .ask([messages("é\u2028")])[0]
            .text.endswith("é\u2028")
        )


def test_only_what_is_new_is_submitted(tmp_path: Path) -> None:
    with serving() as server:
        with pytest.raises(BatchNotReady):
            teacher_at(server, tmp_path).ask(numbered(3))
        with pytest.raises(BatchNotReady, match="5 of 5 requests.*batch_0.*batch_1"):
            teacher_at(server, tmp_path).ask(numbered(5))
        assert server.files["file-1"].count("\n") == 2
        server.finish_batches()
        assert all(answer.text for answer in teacher_at(server, tmp_path).ask(numbered(5)))


def test_what_is_under_way_at_another_server_is_not_waited_for(tmp_path: Path) -> None:
    with serving() as elsewhere, serving() as server:
        with pytest.raises(BatchNotReady):
            teacher_at(elsewhere, tmp_path).ask(numbered(3))
        with pytest.raises(BatchNotReady, match="3 of 3 requests"):
            teacher_at(server, tmp_path).ask(numbered(3))
        assert list(server.batches) == ["batch_0"]
        server.finish_batches()
        assert all(answer.text for answer in teacher_at(server, tmp_path).ask(numbered(3)))


def test_a_batch_whose_id_was_lost_is_found_again(tmp_path: Path) -> None:
    """As if the process had been killed between the server's taking it and our writing down its id."""
    with serving() as server:
        with pytest.raises(BatchNotReady):
            teacher_at(server, tmp_path).ask(numbered(3))
        record = tmp_path / "answers.sqlite.batches.json"
        (job,) = json.loads(record.read_text())
        record.write_text(json.dumps([{**job, "batch_id": None}]))
        with pytest.raises(BatchNotReady, match="batch_0"):
            teacher_at(server, tmp_path).ask(numbered(3))
        assert len(server.batches) == 1
        assert json.loads(record.read_text()) == [job]

        record.write_text(json.dumps([{**job, "submission": "never arrived", "batch_id": None}]))
        with pytest.raises(BatchNotReady, match="batch_1"):
            teacher_at(server, tmp_path).ask(numbered(3))


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(error("overloaded"), 503), "failed with status 503 in 1 attempt.*Try later. Answers"),
        (Reply(error("slow down"), 429), r"after 1 attempt.*Lower concurrency \(8\), or check"),
        (Reply({}, delay=1.5), r"no answer within 0\.5 s, in 1 attempt"),
    ],
    ids=["error", "limit", "time-out"],
)
def test_a_batch_the_server_took_without_saying_so_is_not_made_twice(
    tmp_path: Path, reply: Reply, message: str
) -> None:
    with serving() as server:
        server.say_batch = lambda batch: reply
        with pytest.raises(TeacherError, match=f"{message}.*next run finds it by its metadata") as caught:
            teacher_at(server, tmp_path, retries=2, timeout=0.5).ask(numbered(3))
        assert caught.value.__context__ is None
        assert server.batches["batch_0"]["metadata"]["rankrl_submission"] in str(caught.value)
        server.say_batch = Reply
        with pytest.raises(BatchNotReady, match="batch_0 is in_progress"):
            teacher_at(server, tmp_path).ask(numbered(3))
        assert list(server.batches) == ["batch_0"]
        server.finish_batches()
        assert all(answer.text for answer in teacher_at(server, tmp_path).ask(numbered(3)))


def test_refusals_are_answers_and_expired_requests_are_submitted_again(tmp_path: Path) -> None:
    def fail(row: dict) -> dict | None:
        question = row["body"]["messages"][0]["content"]
        if question == "question 0":
            return {"response": {"status_code": 400, "body": {"error": {"code": "content_filter", "message": "no"}}}}
        if question == "question 1":
            return {"response": None, "error": {"code": "batch_expired", "message": "too late"}}
        return None

    with serving() as server:
        with pytest.raises(BatchNotReady):
            teacher_at(server, tmp_path).ask(numbered(3))
        server.finish_batches("expired", fail=fail)
        with pytest.raises(BatchNotReady, match="1 of 3 requests.*batch_1"):
            teacher_at(server, tmp_path).ask(numbered(3))
        server.finish_batches()
        answers = teacher_at(server, tmp_path).ask(numbered(3))
        assert [answer.status for answer in answers] == ["refused", "ok", "ok"]


@pytest.mark.parametrize("body", [None, {}, {"choices": []}, {"choices": [None]}, "<html>hi</html>"])
def test_a_broken_row_does_not_stop_those_after_it(tmp_path: Path, body: Any) -> None:
    def broken(request: dict, attempt: int) -> Reply:
        return Reply(body) if request["messages"][0]["content"] == "question 0" else echo(request, attempt)

    with serving(broken) as server:
        with pytest.raises(BatchNotReady):
            teacher_at(server, tmp_path).ask(numbered(3))
        server.finish_batches()
        with pytest.raises(BatchNotReady, match=r"1 of 3 requests.*batch_1 is in_progress \(0 of 1 done\)"):
            teacher_at(server, tmp_path).ask(numbered(3))
        server.behave = echo
        server.finish_batches()
        assert [answer.status for answer in teacher_at(server, tmp_path).ask(numbered(3))] == ["ok"] * 3


def test_requests_that_would_fail_again_are_an_error(tmp_path: Path) -> None:
    def fail(row: dict) -> dict | None:
        wrong = row["body"]["messages"][0]["content"] == "question 1"
        body = {"error": {"message": "max_tokens is not supported"}}
        return {"response": {"status_code": 400, "body": body}} if wrong else None

    with serving() as server:
        with pytest.raises(BatchNotReady):
            teacher_at(server, tmp_path).ask(numbered(3))
        server.finish_batches(fail=fail)
        with pytest.raises(TeacherError, match=r"refused 1 part\(s\) of batch batch_0.*max_tokens is not supported"):
            teacher_at(server, tmp_path).ask(numbered(3))
        assert len(teacher_at(server, tmp_path).cache) == 2


def test_a_batch_that_failed_as_a_whole_says_why(tmp_path: Path) -> None:
    with serving() as server:
        with pytest.raises(BatchNotReady):
            teacher_at(server, tmp_path).ask(numbered(3))
        server.batches["batch_0"] |= {"status": "failed", "errors": {"data": [{"message": "no such model"}]}}
        with pytest.raises(TeacherError, match="no such model"):
            teacher_at(server, tmp_path).ask(numbered(3))


def test_a_batch_the_server_does_not_know_is_explained(tmp_path: Path) -> None:
    with serving() as server:
        with pytest.raises(BatchNotReady):
            teacher_at(server, tmp_path).ask(numbered(3))
        server.batches.clear()
        with pytest.raises(TeacherError, match=r"does not know the batch batch_0.*delete .*batches\.json"):
            teacher_at(server, tmp_path).ask(numbered(3))


def test_nothing_is_submitted_that_would_pass_the_budget(tmp_path: Path) -> None:
    with serving() as server:
        for budget in (Budget(calls=4), Budget(tokens=5 * 1024)):
            with pytest.raises(BudgetExceeded, match="5 requests are left"):
                teacher_at(server, tmp_path, budget=budget).ask(numbered(5))
        assert not server.batches
        assert not server.files


def test_large_jobs_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_REQUESTS", 4)
    with serving() as server:
        with pytest.raises(BatchNotReady):
            teacher_at(server, tmp_path).ask(numbered(10))
        assert [text.count("\n") for text in server.files.values()] == [4, 4, 2]
        monkeypatch.setattr(batch, "MAX_BYTES", 700)  # two requests
        with pytest.raises(BatchNotReady):
            teacher_at(server, tmp_path).ask(numbered(16))
        sizes = [len(text) for text in list(server.files.values())[3:]]
        assert len(sizes) > 1
        assert max(sizes) <= 700
        server.finish_batches()
        assert all(answer.text for answer in teacher_at(server, tmp_path).ask(numbered(16)))


def test_the_key_is_not_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with serving(lambda body, attempt: Reply(completion("x"))) as server:
        with pytest.raises(BatchNotReady) as caught:
            teacher_at(server, tmp_path, api_key_env=KEY_VARIABLE).ask(numbered(2))
        assert KEY not in str(caught.value)
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())
    assert not any(KEY in text for text in server.files.values())
    with pytest.raises(TeacherError, match="cannot be reached"):
        teacher_at(server, tmp_path, api_key_env=KEY_VARIABLE).ask(numbered(2))
