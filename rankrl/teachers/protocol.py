"""What a teacher is: messages in, text out."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Messages = list[dict[str, str]]
"""One request: `{"role", "content"}`, the system text first if there is one."""

Status = Literal["ok", "empty", "refused"]

# Models that think aloud put their thoughts before the answer, unless their server takes them out.
_THOUGHTS = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)\s*", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """What a teacher answered to one request.

    Attributes:
        text: the answer without thoughts (`<think>`) before it; None unless `status` is `"ok"`.
        status: `"refused"` by the model or a content filter, `"empty"` if nothing but white space or thoughts came.
            Both are answers like any other: kept, counted, never asked again.
        prompt_tokens: tokens of the request, as the server counts them.
        completion_tokens: tokens of the answer, thoughts included.
        cached: it cost nothing this time.
        finish_reason: why the answer ended; `"length"` means that it was cut.
    """

    text: str | None
    status: Status
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: bool = False
    finish_reason: str | None = None

    @classmethod
    def of(
        cls,
        text: str | None,
        *,
        refused: bool = False,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        finish_reason: str | None = None,
    ) -> Answer:
        """The answer whose text a teacher wrote, with the status that follows from it.

        Half a character (a lone surrogate, as of an emoji that was cut) becomes `?`: no file could keep it.
        """
        written = encodable(_THOUGHTS.sub("", text or ""))
        status: Status = "refused" if refused else "ok" if written.strip() else "empty"
        return cls(
            text=written if status == "ok" else None,
            status=status,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            finish_reason=finish_reason,
        )


def encodable(text: str) -> str:
    """`text` with `?` for each lone surrogate: JSON can escape one (`\\ud83d`), but UTF-8 cannot write it."""
    return text.encode("utf-8", "replace").decode()


class Teacher(Protocol):
    """A black-box language model.

    Attributes:
        name: the model's name, for cards and manifests.
    """

    name: str

    def ask(self, requests: Sequence[Messages]) -> list[Answer]:
        """Answer many requests, batched and concurrently; answers stand in the order of the requests.

        Raises:
            TeacherError: if it cannot go on. What was answered until then is kept.
        """
        ...


class TeacherError(RuntimeError):
    """A teacher cannot go on; the message says what to change. Answers that arrived are kept."""


class BudgetExceeded(TeacherError):
    """The next call would pass a limit that was set."""


class BatchNotReady(TeacherError):
    """The requests lie at the batch endpoint: run the same command again later to collect the answers."""


def approximate_tokens(text: str) -> int:
    """A guess at the tokens of a text: a quarter of its UTF-8 bytes, the usual rule for English and BPE."""
    return math.ceil(len(text.encode("utf-8", "replace")) / 4)


def approximate_prompt_tokens(messages: Messages) -> int:
    """`approximate_tokens` of the contents, and 4 more a message for its role and delimiters."""
    return sum(approximate_tokens(message["content"]) + 4 for message in messages)
