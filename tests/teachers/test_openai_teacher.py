"""OpenAITeacher against a real server: answers, refusals, errors, limits, keys."""

from __future__ import annotations

import logging
import socket
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rankrl.teachers import AnswerCache, Budget, BudgetExceeded, OpenAITeacher, TeacherError
from tests.teachers.server import KEY, KEY_VARIABLE, ChatServer, Reply, completion, error, messages, numbered, serving


@pytest.fixture
def cache(tmp_path: Path) -> AnswerCache:
    return AnswerCache(tmp_path / "answers.sqlite")


def teacher_at(server: ChatServer, cache: AnswerCache, **settings: Any) -> OpenAITeacher:
    return OpenAITeacher("m", server.url, cache=cache, **{"retries": 2, "timeout": 20.0, "quiet": True, **settings})


def test_answers_stand_in_the_order_of_the_requests(cache: AnswerCache) -> None:
    with serving() as server:
        teacher = teacher_at(server, cache, concurrency=4)
        answers = teacher.ask(numbered(30))
        assert [answer.text for answer in answers] == [f"answer to question {n}" for n in range(30)]
        assert {(answer.status, answer.prompt_tokens, answer.completion_tokens) for answer in answers} == {
            ("ok", 20, 10)
        }
        assert not any(answer.cached for answer in answers)
        assert len(server.calls) == 30
        again = teacher.ask(numbered(30)[::-1])
        assert [answer.text for answer in again] == [f"answer to question {n}" for n in range(30)][::-1]
        assert all(answer.cached for answer in again)
        assert len(server.calls) == 30
        assert teacher.budget.report() == {
            "calls": 30, "cached": 30, "prompt_tokens": 600, "completion_tokens": 300,
            "cached_prompt_tokens": 600, "cached_completion_tokens": 300,
            "refused": 0, "empty": 0, "cut": 0, "money": None, "money_of_earlier_runs": None,
        }  # fmt: skip


def test_what_is_sent_is_the_body_that_names_the_answer(cache: AnswerCache) -> None:
    with serving() as server:
        teacher = teacher_at(server, cache, temperature=None, max_tokens=None, seed=3, parameters={"top_p": 0.5})
        teacher.ask([messages("hello")])
        expected = {"model": "m", "messages": messages("hello"), "seed": 3, "top_p": 0.5}
        assert server.calls == [expected] == [teacher.body(messages("hello"))]
        teacher_at(server, cache).ask([messages("hello")])
        assert server.calls[1] == {"model": "m", "messages": messages("hello"), "temperature": 0.0, "max_tokens": 1024}


def test_concurrency_is_used_and_never_passed(cache: AnswerCache) -> None:
    barrier = threading.Barrier(3)  # nobody is answered before three are under way

    def together(body: dict, attempt: int) -> Reply:
        barrier.wait(timeout=20)
        return Reply(completion("x"))

    with serving(together) as server:
        teacher_at(server, cache, concurrency=3).ask(numbered(9))
        assert server.most_at_once == 3


def test_equal_requests_are_sent_once(cache: AnswerCache) -> None:
    with serving() as server:
        teacher = teacher_at(server, cache)
        answers = teacher.ask([messages("a"), messages("b"), messages("a"), messages("a")])
        assert [answer.text for answer in answers] == [f"answer to {c}" for c in "abaa"]
        assert [answer.cached for answer in answers] == [False, False, True, True]
        assert sorted(server.asked()) == ["a", "b"]
        assert (teacher.budget.usage.calls, teacher.budget.usage.cached) == (2, 2)


def test_equal_requests_in_flight_from_several_threads_are_sent_once(cache: AnswerCache) -> None:
    arrived = threading.Event()

    def slow(body: dict, attempt: int) -> Reply:
        arrived.wait(timeout=20)
        return Reply(completion("one answer"))

    with serving(slow) as server, ThreadPoolExecutor(4) as pool:
        teacher = teacher_at(server, cache)
        futures = [pool.submit(teacher.ask, [messages("same")]) for _ in range(4)]
        while not server.calls:
            pass
        arrived.set()
        answers = [future.result()[0] for future in futures]
        assert {answer.text for answer in answers} == {"one answer"}
        assert sorted(answer.cached for answer in answers) == [False, True, True, True]
        assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (completion(None, refusal="I would rather not."), "refused"),
        (completion("half an ans", finish="content_filter"), "refused"),
        (completion(None), "empty"),
        (completion(" \n\t"), "empty"),
        (completion("<think>hm, hm</think>\n"), "empty"),
        (completion("<think>cut in the midst of", finish="length"), "empty"),
    ],
)
def test_refused_and_empty_answers_are_kept_and_never_asked_again(cache: AnswerCache, reply: dict, status: str) -> None:
    with serving(lambda body, attempt: Reply(reply)) as server:
        teacher = teacher_at(server, cache)
        for _ in range(3):
            (answer,) = teacher.ask([messages("hello")])
            assert (answer.status, answer.text) == (status, None)
        assert len(server.calls) == 1
        usage = teacher.budget.usage
        assert (usage.refused, usage.empty) == ((1, 0) if status == "refused" else (0, 1))


def test_a_content_filter_that_answers_with_an_error_is_a_refusal(cache: AnswerCache) -> None:
    with serving(lambda body, attempt: Reply(error("blocked", "content_filter"), 400)) as server:
        (answer,) = teacher_at(server, cache).ask([messages("hello")])
        assert (answer.status, answer.finish_reason) == ("refused", "content_filter")
        assert len(server.calls) == 1


def test_prose_is_an_answer_without_its_thoughts(cache: AnswerCache) -> None:
    with serving(lambda body, attempt: Reply(completion("<think>\nhm\n</think>\n\nWell, it depends."))) as server:
        assert teacher_at(server, cache).ask([messages("hello")])[0].text == "Well, it depends."


def test_a_cut_answer_says_so_and_is_counted(cache: AnswerCache) -> None:
    with serving(lambda body, attempt: Reply(completion("1. Heat", finish="length"))) as server:
        teacher = teacher_at(server, cache)
        assert teacher.ask([messages("hello")])[0].finish_reason == "length"
        assert teacher.ask([messages("hello")])[0].finish_reason == "length"  # from the cache too
        assert teacher.budget.usage.cut == 1


def test_tokens_are_estimated_where_the_server_does_not_count_them(cache: AnswerCache) -> None:
    with serving(lambda body, attempt: Reply(completion("y" * 41, usage=False))) as server:
        (answer,) = teacher_at(server, cache).ask([messages("x" * 40)])
        assert (answer.prompt_tokens, answer.completion_tokens) == (10 + 4, 11)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_troubles_are_tried_again(cache: AnswerCache, status: int) -> None:
    def troubled(body: dict, attempt: int) -> Reply:
        headers = {"Retry-After": "0.02"}
        return Reply(error("busy"), status, headers) if attempt < 2 else Reply(completion("at last"))

    with serving(troubled) as server:
        teacher = teacher_at(server, cache)
        assert teacher.ask([messages("hello")])[0].text == "at last"
        assert len(server.calls) == 3
        assert teacher.budget.usage.calls == 1


def test_retry_after_is_honoured(cache: AnswerCache, caplog: pytest.LogCaptureFixture) -> None:
    """The client would wait half a second by itself, and says how long it waits."""

    def limited(body: dict, attempt: int) -> Reply:
        return Reply(error("busy"), 429, {"Retry-After": "0.07"}) if attempt == 0 else Reply(completion("at last"))

    with serving(limited) as server, caplog.at_level(logging.INFO, "openai"):
        teacher_at(server, cache).ask([messages("hello")])
    assert [r.getMessage() for r in caplog.records if "in 0.070000 seconds" in r.getMessage()]


@pytest.mark.parametrize(
    ("status", "said", "message"),
    [
        (429, "quota", r"still limits us after 3 attempt\(s\).*'.*quota.*Lower concurrency"),
        (500, "oops", r"failed with status 500 in 3 attempt\(s\).*oops"),
        (404, "no model m", r"status 404.*no model m.*'m'.*ends in /v1"),
        (400, "max_tokens is not supported", r"status 400.*max_tokens is not supported.*null"),
    ],
)
def test_lasting_troubles_stop_the_run_and_say_why(cache: AnswerCache, status: int, said: str, message: str) -> None:
    reply = Reply(error(said), status, {"Retry-After": "0.01"})
    with serving(lambda body, attempt: reply) as server:
        with pytest.raises(TeacherError, match=message):
            teacher_at(server, cache).ask([messages("hello")])
        assert len(server.calls) == (3 if status in (429, 500) else 1)
        assert len(cache) == 0


def test_a_time_out_is_tried_again_and_then_explained(cache: AnswerCache) -> None:
    with serving(lambda body, attempt: Reply(completion("late"), delay=2.0)) as server:
        with pytest.raises(TeacherError, match=r"no answer within 0.5 s, in 2 attempt\(s\).*Raise timeout"):
            teacher_at(server, cache, timeout=0.5, retries=1).ask([messages("hello")])
        assert len(server.calls) == 2


def test_an_unreachable_server_is_named(cache: AnswerCache) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        teacher = OpenAITeacher("m", url, cache=cache, retries=0, quiet=True)
        with pytest.raises(TeacherError, match=rf"127\.0\.0\.1 \({url}\) cannot be reached, in 1 .*server running"):
            teacher.ask([messages("hello")])


@pytest.mark.parametrize("body", [{"hello": "world"}, {"choices": []}, {"choices": [{"text": "x"}]}, "<html>hi</html>"])
def test_what_is_no_chat_completion_is_refused(cache: AnswerCache, body: Any) -> None:
    headers = {"Content-Type": "text/html"} if isinstance(body, str) else {}
    with (
        serving(lambda request, attempt: Reply(body, headers=headers)) as server,
        pytest.raises(TeacherError, match="no chat completion.*ends in /v1"),
    ):
        teacher_at(server, cache).ask([messages("hello")])


def test_broken_json_is_refused(cache: AnswerCache) -> None:
    with (
        serving(lambda request, attempt: Reply('{"choices": [{')) as server,
        pytest.raises(TeacherError, match="sent broken JSON"),
    ):
        teacher_at(server, cache).ask([messages("hello")])


def test_one_failure_stops_the_rest_but_keeps_what_arrived(cache: AnswerCache) -> None:
    def one_is_bad(body: dict, attempt: int) -> Reply:
        bad = body["messages"][-1]["content"] == "question 5"
        return Reply(error("bad request"), 400) if bad else Reply(completion("fine"), delay=0.01)

    with serving(one_is_bad) as server:
        teacher = teacher_at(server, cache, concurrency=2)
        with pytest.raises(TeacherError, match="bad request"):
            teacher.ask(numbered(200))
        assert 5 <= len(cache) == len(server.calls) - 1 < 199


def test_the_budget_of_calls_stops_exactly(cache: AnswerCache) -> None:
    with serving() as server:
        with pytest.raises(
            BudgetExceeded, match=r"budget of 7 \(calls\).*7 calls · 0 from the cache · 210 tok.* 23 requests are left"
        ):
            teacher_at(server, cache, concurrency=4, budget=Budget(calls=7)).ask(numbered(30))
        assert len(server.calls) == len(cache) == 7
        answers = teacher_at(server, cache, budget=Budget(calls=23)).ask(numbered(30))
        assert all(answer.text for answer in answers)
        assert sorted(server.asked()) == sorted(m[0]["content"] for m in numbered(30))


@pytest.mark.parametrize(
    "budget",
    [Budget(tokens=300), Budget(money=300e-6, input_price=1.0, output_price=1.0)],
    ids=["tokens", "money"],
)
def test_budgets_of_tokens_and_money_are_not_passed(cache: AnswerCache, budget: Budget) -> None:
    """30 tokens a call: ten calls are paid for."""
    with serving() as server:
        with pytest.raises(
            BudgetExceeded, match="would pass the budget.*Spent in this run: 10 calls.* 40 requests are left"
        ):
            teacher_at(server, cache, concurrency=3, budget=budget).ask(numbered(50))
        assert len(server.calls) == len(cache) == 10


def test_a_wrong_key_is_explained_and_appears_nowhere(
    cache: AnswerCache,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Not even where the server repeats it."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    statuses = iter([401, 403, 400, 500])
    with serving(lambda body, attempt: Reply(error(f"bad key {KEY}"), next(statuses))) as server:
        caplog.set_level(logging.DEBUG)
        seen = []
        for _ in range(4):
            with pytest.raises(TeacherError) as caught:
                teacher_at(server, cache, api_key_env=KEY_VARIABLE, retries=0).ask([messages("hello")])
            seen += traceback.format_exception(caught.value)
            assert caught.value.__context__ is None
            assert caught.value.__cause__ is None
        assert f"environment variable {KEY_VARIABLE} was sent" in "".join(seen)
        assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    written = "".join(seen) + caplog.text + "".join(capfd.readouterr())
    assert KEY not in written
    assert KEY[5:15] not in written


def test_the_key_is_not_in_the_cache(cache: AnswerCache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with serving() as server:
        teacher = teacher_at(server, cache, api_key_env=KEY_VARIABLE)
        teacher.ask(numbered(5))
        assert KEY not in repr(teacher) + str(teacher.estimate(numbered(7)))
        monkeypatch.setenv(KEY_VARIABLE, "another key")
        assert all(answer.cached for answer in teacher_at(server, cache, api_key_env=KEY_VARIABLE).ask(numbered(5)))
    files = list(tmp_path.iterdir())
    assert len(files) >= 2
    assert not any(KEY.encode() in path.read_bytes() for path in files)


def test_no_key_goes_to_a_server_it_was_not_meant_for(cache: AnswerCache, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(variable, KEY)
    with serving() as server:
        teacher_at(server, cache).ask([messages("hello")])
        assert KEY not in str(server.headers)


def test_a_missing_key_is_explained_before_anything_is_sent(
    cache: AnswerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with serving() as server:
        with pytest.raises(ValueError, match=f"{KEY_VARIABLE} is not set.*export {KEY_VARIABLE}="):
            teacher_at(server, cache, api_key_env=KEY_VARIABLE).ask([messages("hello")])
        assert not server.calls


@pytest.mark.parametrize("confirmed", [None, "openai.com", "api.openai.com.example"])
def test_dialogues_do_not_leave_the_machine_unconfirmed(
    cache: AnswerCache, monkeypatch: pytest.MonkeyPatch, confirmed: str | None
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.example/v1")
    teacher = OpenAITeacher("m", cache=cache, remote_host=confirmed, quiet=True)
    assert teacher.leaves_machine
    with pytest.raises(
        ValueError, match=r"would leave this machine for api\.openai\.com.*remote_host: api\.openai\.com"
    ):
        teacher.ask([messages("hello")])
    with pytest.raises(ValueError, match="would leave this machine for 192.168.0.7"):
        OpenAITeacher("m", "http://192.168.0.7:8000/v1", cache=cache).ask([messages("hello")])


def test_a_full_cache_needs_neither_server_nor_key_nor_leave(
    cache: AnswerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving() as server:
        teacher_at(server, cache).ask(numbered(3))
    assert all(answer.cached for answer in OpenAITeacher("m", cache=cache, quiet=True).ask(numbered(3)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000"}, "expected an address such as"),
        ({"base_url": "https://me:secret@host/v1"}, "holds a user, a password"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"mode": "later"}, "'online' or 'batch'"),
        ({"api_key_env": "sk-secret"}, "has to be the name of an environment variable"),
    ],
)
def test_settings_that_make_no_sense(cache: AnswerCache, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        OpenAITeacher("m", cache=cache, **settings)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "local"),
    [("localhost", True), ("127.0.0.9", True), ("[::1]", True), ("10.0.0.1", False), ("localhost.example.com", False)],
)
def test_which_hosts_are_this_machine(cache: AnswerCache, host: str, local: bool) -> None:
    assert OpenAITeacher("m", f"http://{host}:80/v1", cache=cache).leaves_machine is not local


def test_a_dry_run_sends_nothing_and_says_what_a_run_takes(cache: AnswerCache) -> None:
    requests = [messages("x" * 40)] * 2 + numbered(3)
    with serving() as server:
        budget = Budget(input_price=2.0, output_price=10.0)
        teacher = teacher_at(server, cache, budget=budget, max_tokens=100)
        plan = teacher.estimate(requests)
        assert not server.calls
        # 40 bytes are 10 tokens, "question 0" is 3, and each message has 4 more.
        assert (plan.requests, plan.calls, plan.prompt_tokens, plan.completion_tokens) == (5, 4, 14 + 3 * 7, 400)
        assert plan.money == pytest.approx((35 * 2 + 400 * 10) / 1e6)
        assert plan.examples == tuple(teacher.body(request) for request in (requests[0], requests[2], requests[3]))
        text = str(plan)
        for part in (
            "5 requests, 4 of them",
            "upper bound",
            "sent to: 127.0.0.1",
            "[user]\nquestion 1",
            "temperature=0.0",
        ):
            assert part in text
        assert "question 2" not in text
        teacher.ask(requests[:3])
        plan = teacher.estimate(requests)
        assert (plan.calls, plan.completion_tokens) == (2, 20)  # 10 tokens each, like those in the cache
        (answer,) = teacher.ask(requests[:1])
        cache.put(teacher.key(requests[3]), "m", replace(answer, completion_tokens=40))
        plan = teacher.estimate(requests)
        assert (plan.calls, plan.completion_tokens) == (1, 20), "as long as 10, 10 and 40 are on average"
        assert "leave this machine" in str(OpenAITeacher("m", cache=cache).estimate(requests))
