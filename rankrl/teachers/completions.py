"""What a chat-completions server says, in our words: its answers and its errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rankrl.teachers.protocol import (
    Answer,
    Messages,
    TeacherError,
    approximate_prompt_tokens,
    approximate_tokens,
)

if TYPE_CHECKING:
    from rankrl.teachers.openai_teacher import OpenAITeacher

FILTER_CODES = {"content_filter", "content_policy_violation"}
GO_ON = "Answers that arrived are kept; run again to go on."
_SHOWN = 300


def read_completion(reply: Any, messages: Messages, scrub: Callable[[str], str]) -> Answer:
    """The answer in a chat completion.

    Args:
        reply: the client's `ChatCompletion`, or the same as a dictionary.
        messages: the request. Its tokens are estimated (`approximate_tokens`) if the server does not count them.
        scrub: takes the key out of a text (`OpenAITeacher.scrub`): what answers in a server's place may repeat it.

    Raises:
        TeacherError: if this is no chat completion.
    """
    body = reply if isinstance(reply, dict) else reply.to_dict() if hasattr(reply, "to_dict") else None
    choices = body.get("choices") if body else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not body or not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise TeacherError(
            f"the server's answer is no chat completion: {scrub(str(body or reply))[:_SHOWN]!r}. Is base_url "
            f"right? It usually ends in /v1. {GO_ON}"
        )
    usage, message = body.get("usage") or {}, choice["message"]
    text, finish = _text(message.get("content")), choice.get("finish_reason")
    prompt_tokens, completion_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Answer.of(
        text,
        refused=bool(message.get("refusal")) or finish == "content_filter",
        prompt_tokens=approximate_prompt_tokens(messages) if prompt_tokens is None else prompt_tokens,
        completion_tokens=approximate_tokens(text or "") if completion_tokens is None else completion_tokens,
        finish_reason=finish,
    )


def _text(content: Any) -> str | None:
    """What the message says; some servers send it in parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content


def refused_by_filter(error: Any) -> bool:
    """Is this error a content filter's refusal? Some servers refuse a request with an error in place of an answer."""
    return getattr(error, "status_code", None) == 400 and getattr(error, "code", None) in FILTER_CODES


def explain(error: Any, teacher: OpenAITeacher, *, once: bool = False) -> TeacherError:
    """What went wrong and what to change, without the key.

    Args:
        error: an `openai.OpenAIError`.
        teacher: whose settings to name.
        once: was this request sent once, however many `retries` there are?
    """
    import openai

    where, tries = f"{teacher.host} ({teacher.base_url})", f"{1 if once else teacher.retries + 1} attempt(s)"
    patience = "" if once else ", or raise retries"
    said = teacher.scrub(str(getattr(error, "message", error)))[:_SHOWN]
    if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
        # What the server says about a key may quote it, so it is left out.
        sent = f"the key in the environment variable {teacher.api_key_env}" if teacher.api_key_env else "no key"
        problem = (
            f"{where} does not let us in (status {error.status_code}); {sent} was sent. Check that it is the key for "
            "this server and may use this model; another variable is named by api_key_env."
        )
    elif isinstance(error, openai.APITimeoutError):
        problem = (
            f"{where} gave no answer within {teacher.timeout:g} s, in {tries}. Raise timeout, or lower concurrency "
            f"({teacher.concurrency}) or max_tokens."
        )
    elif isinstance(error, openai.APIConnectionError):
        problem = f"{where} cannot be reached, in {tries}. Is the server running, and base_url right?"
    elif isinstance(error, openai.RateLimitError):
        problem = (
            f"{where} still limits us after {tries} (status 429): {said!r}. Lower concurrency ({teacher.concurrency})"
            f"{patience}, or check the account's quota."
        )
    elif isinstance(error, openai.NotFoundError):
        problem = (
            f"{where} does not know what we asked for (status 404): {said!r}. Check the model's name "
            f"({teacher.name!r}) and base_url, which usually ends in /v1."
        )
    elif isinstance(error, openai.APIStatusError) and error.status_code < 500:
        problem = (
            f"{where} refuses a request (status {error.status_code}): {said!r}. Settings that a model does not "
            "take are left out with null (temperature, max_tokens) and others given in parameters."
        )
    elif isinstance(error, openai.APIStatusError):
        problem = f"{where} failed with status {error.status_code} in {tries}: {said!r}. Try later{patience}."
    else:
        problem = f"{where}: the openai client failed with {type(error).__name__}: {said!r}."
    return TeacherError(f"{problem} {GO_ON}")
