"""What a server says, read with care: keys that it repeats, and text that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rankrl.teachers import AnswerCache, OpenAITeacher, TeacherError
from tests.teachers.server import KEY, KEY_VARIABLE, Reply, completion, messages, serving


@pytest.mark.parametrize("before", [0, 275], ids=["whole", "cut"])
def test_a_server_that_echoes_the_key_does_not_bring_it_into_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """Not even the start of it, where the message is cut."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    cache = AnswerCache(tmp_path / "answers.sqlite")
    with serving() as server:
        server.behave = lambda body, attempt: Reply({"." * before: server.headers[-1]["authorization"]})
        teacher = OpenAITeacher("m", server.url, cache=cache, api_key_env=KEY_VARIABLE, retries=0, quiet=True)
        with pytest.raises(TeacherError, match=r"no chat completion.*Bearer \*\*\*") as caught:
            teacher.ask([messages("hello")])
    assert KEY[:8] not in str(caught.value)


@pytest.mark.parametrize("usage", [True, False], ids=["counted", "estimated"])
def test_half_a_character_is_an_answer_that_can_be_kept(tmp_path: Path, usage: bool) -> None:
    """`\\ud83d` in the server's JSON: an emoji that was cut where the tokens ended."""

    def teacher(**settings: Any) -> OpenAITeacher:
        cache = AnswerCache(tmp_path / "answers.sqlite")
        return OpenAITeacher("m", server.url, cache=cache, retries=0, quiet=True, **settings)

    with serving(lambda body, attempt: Reply(completion("Up (2009) \ud83d", finish="length", usage=usage))) as server:
        (answer,) = teacher().ask([messages("hello")])
        assert (answer.text, answer.status, answer.finish_reason) == ("Up (2009) ?", "ok", "length")
        (kept,) = teacher().ask([messages("hello")])
        assert (kept.text, kept.cached) == (answer.text, True)
        assert len(server.calls) == 1


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # the client does not expect parts either
def test_an_answer_in_parts_is_put_together(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "1. Heat\n"}, {"type": "text", "text": "2. Up"}]
    with serving(lambda body, attempt: Reply(completion(parts))) as server:
        cache = AnswerCache(tmp_path / "answers.sqlite")
        (answer,) = OpenAITeacher("m", server.url, cache=cache, retries=0, quiet=True).ask([messages("hello")])
    assert answer.text == "1. Heat\n2. Up"


def test_zero_is_zero_however_a_config_writes_it(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite")
    with serving() as server:
        for temperature in (0, 0.0):
            OpenAITeacher("m", server.url, cache=cache, temperature=temperature, quiet=True).ask([messages("hello")])
        assert len(server.calls) == 1


def test_half_an_emoji_in_a_request_is_sent_as_a_question_mark(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite")
    with serving() as server:
        OpenAITeacher("m", server.url, cache=cache, quiet=True).ask([messages("hello \ud83d")])
        assert server.asked() == ["hello ?"]
