"""Any server that speaks the chat-completions interface of OpenAI: OpenAI, vLLM, Ollama, `transformers serve`, ..."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cached_property
from ipaddress import ip_address
from json import JSONDecodeError
from typing import Any, Literal
from urllib.parse import urlsplit

from rankrl.teachers.budget import Budget
from rankrl.teachers.cache import AnswerCache
from rankrl.teachers.cached import CachedTeacher
from rankrl.teachers.completions import GO_ON, explain, read_completion, refused_by_filter
from rankrl.teachers.protocol import Answer, Messages, TeacherError

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
_CONNECT_SECONDS = 10.0
_VARIABLE = re.compile("[A-Z_][A-Z0-9_]*")


class OpenAITeacher(CachedTeacher):
    """A model behind a chat-completions server.

    Rate limits (429), server errors (5xx), time-outs and lost connections are tried again after a growing pause, or
    after the one the server asks for (`Retry-After`, up to two minutes). A refused or empty answer is an answer.

    Args:
        model: the model's name at the server.
        base_url: address of the server up to its version, such as `http://localhost:8000/v1`; OpenAI's by default.
        cache: where answers are kept. Its key is model, messages and parameters, so to draw another sample of the same
            request, give another `seed`.
        budget: limits and ledger of this run.
        concurrency: requests under way at once.
        temperature: 0 for the likeliest answer; None leaves it out, for models that do not take it.
        max_tokens: longest answer; None leaves it out.
        seed: for servers that take one.
        parameters: further fields of the request, such as `{"top_p": 0.9}` or `{"max_completion_tokens": 2000}`.
        timeout: seconds to wait for one answer.
        retries: how often one request is tried again.
        mode: `"online"`, or `"batch"` for the cheaper batch endpoint: `ask` submits, raises `BatchNotReady`, and
            collects when it is called again later, in this process or another.
        api_key_env: name of the environment variable that holds the key. By default `OPENAI_API_KEY` for OpenAI and
            none for any other server, so that no key goes where it was not meant to go.
        remote_host: has to name the server's host if it is not this machine: the dialogues leave it.
        quiet: show no progress.

    Raises:
        ValueError: for settings that make no sense. Key and host are checked when the first request has to be sent, so
            a run whose answers are all in the cache, and a dry run, need neither.

    Example:
        >>> cache = AnswerCache("runs/teacher.sqlite")
        >>> teacher = OpenAITeacher("qwen3", "http://localhost:8000/v1", cache=cache, budget=Budget(calls=1000))
        >>> teacher.ask([[{"role": "user", "content": "A heist film?"}]])[0].text
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        cache: AnswerCache,
        budget: Budget | None = None,
        concurrency: int = 8,
        temperature: float | None = 0.0,
        max_tokens: int | None = 1024,
        seed: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        timeout: float = 120.0,
        retries: int = 6,
        mode: Literal["online", "batch"] = "online",
        api_key_env: str | None = None,
        remote_host: str | None = None,
        quiet: bool = False,
    ) -> None:
        if temperature is not None:
            temperature = float(temperature)  # 0 and 0.0 are one request, which is paid once
        own = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
        given = {name: value for name, value in own.items() if value is not None}
        super().__init__(model, {**given, **(parameters or {})}, cache, budget, quiet=quiet)
        if concurrency < 1 or retries < 0:
            raise ValueError(f"concurrency is {concurrency} and retries is {retries}; at least 1 and 0 are needed")
        if mode not in ("online", "batch"):
            raise ValueError(f"mode is {mode!r}; expected 'online' or 'batch'")
        if api_key_env is not None and not _VARIABLE.fullmatch(api_key_env):
            raise ValueError(
                "api_key_env is not shown, as it may be a key. It has to be the name of an environment variable that "
                "holds the key, in capitals, such as OPENAI_API_KEY; a key never goes into a config."
            )
        self.base_url = base_url or OPENAI_URL
        self.host = _host(self.base_url)
        self.destination = self.host
        self.leaves_machine = not _is_this_machine(self.host)
        self.concurrency, self.timeout, self.retries, self.mode = concurrency, timeout, retries, mode
        self.api_key_env = api_key_env or (OPENAI_KEY if self.host == _host(OPENAI_URL) else None)
        self.remote_host = remote_host

    def _answer(self, missing: Mapping[str, Messages]) -> Iterator[tuple[str, Answer]]:
        client = self._client
        if self.mode == "batch":
            from rankrl.teachers.batch import answer_in_batches

            yield from answer_in_batches(self, client, missing)
            return
        with ThreadPoolExecutor(self.concurrency) as pool:
            futures = {pool.submit(self._answer_one, key, messages): key for key, messages in missing.items()}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:  # after an error or Ctrl-C no further request is sent; those under way are awaited and kept
                pool.shutdown(cancel_futures=True)

    def _answer_one(self, key: str, messages: Messages) -> Answer:
        with self.cache.claim(key):
            if found := self.cache.get([key]):  # another thread or process was faster
                self.budget.count_cached()
                return found[key]
            answer = None
            self.budget.start_call()
            try:
                answer = self._send(messages)
                self.cache.put(key, self.name, answer)
            finally:
                self.budget.end_call(answer)
            return answer

    def _send(self, messages: Messages) -> Answer:
        from openai import OpenAIError

        try:
            reply = self._client.chat.completions.create(model=self.name, messages=messages, extra_body=self.parameters)
            return read_completion(reply, messages, self.scrub)
        except OpenAIError as error:
            if refused_by_filter(error):
                return Answer.of(None, refused=True, finish_reason="content_filter")
            problem = explain(error, self)
        except JSONDecodeError as error:
            problem = TeacherError(f"{self.host} sent broken JSON ({error}). {GO_ON}")
        raise problem  # out here, so that no traceback chains to the client's error and the request in it

    @cached_property
    def _client(self) -> Any:
        try:
            from openai import DefaultHttpxClient, OpenAI, Timeout
        except ModuleNotFoundError as error:
            raise ImportError("OpenAITeacher needs the openai client: pip install 'rankrl[teacher]'") from error
        if self.leaves_machine and (self.remote_host or "").lower() != self.host:
            raise ValueError(
                f"the requests, dialogues among them, would leave this machine for {self.host}. If that is allowed, "
                f"say so: remote_host: {self.host} (it is {self.remote_host!r})."
            )
        return OpenAI(
            api_key=self._key() or "none",
            admin_api_key="",
            base_url=self.base_url,
            timeout=Timeout(self.timeout, connect=min(self.timeout, _CONNECT_SECONDS)),
            max_retries=self.retries,
            # A proxy from the environment would carry requests to this machine away from it.
            http_client=None if self.leaves_machine else DefaultHttpxClient(trust_env=False),
        )

    def _key(self) -> str | None:
        if self.api_key_env is None:
            return None
        if key := os.environ.get(self.api_key_env, "").strip():
            return key
        raise ValueError(
            f"the environment variable {self.api_key_env} is not set; it has to hold the API key for {self.host}: "
            f"export {self.api_key_env}=... (never in a config file). Another variable: api_key_env."
        )

    def scrub(self, text: str) -> str:
        """`text` without the key, should a server have repeated it."""
        key = os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""
        return text.replace(key, "***") if key else text


def _host(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"base_url is {url!r}; expected an address such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise ValueError(
            "base_url holds a user, a password or a query, which would end up in logs and manifests. Put the key into "
            "an environment variable and name it in api_key_env."
        )
    return parts.hostname


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
