"""A real HTTP server on loopback that speaks the chat-completions interface, and does what a test tells it to."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY_VARIABLE, KEY = "TEST_TEACHER_KEY", "sk-a-very-secret-key-0123456789"


@dataclass
class Reply:
    """What the server sends back."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def completion(text: Any, *, finish: str = "stop", refusal: str | None = None, usage: bool = True) -> dict:
    """A chat completion that holds `text`."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    tokens = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
    return {
        "id": "c", "object": "chat.completion", "created": 0, "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        **({"usage": tokens} if usage else {}),
    }  # fmt: skip


def error(message: str, code: str | None = None) -> dict:
    return {"error": {"message": message, "type": "test", "code": code}}


def echo(body: dict, attempt: int) -> Reply:
    """The default behaviour: answers with the last message."""
    return Reply(completion("answer to " + body["messages"][-1]["content"]))


class ChatServer:
    """The server's memory.

    Attributes:
        behave: (body of the request, how often the same body came before) -> reply.
        calls: bodies of all chat requests, in the order of arrival.
        headers: their headers.
        answered: contents of the last messages whose reply was written.
        most_at_once: most chat requests under way at a time.
        batches, files: what lies at the batch endpoint.
        say_batch: what is replied about a batch that was just made; by default what it is.
    """

    def __init__(self, behave: Callable[[dict, int], Reply]) -> None:
        self.behave = behave
        self.calls: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.answered: list[str] = []
        self.most_at_once = 0
        self.batches: dict[str, dict] = {}
        self.files: dict[str, str] = {}
        self.say_batch: Callable[[dict], Reply] = Reply
        self.lock = threading.Lock()
        self._at_once = 0
        server = self

        class Handler(_Handler):
            memory = server

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def asked(self) -> list[str]:
        """What was asked, in the order of arrival."""
        return [body["messages"][-1]["content"] for body in self.calls]

    def chat(self, body: dict, headers: dict[str, str]) -> Reply:
        with self.lock:
            attempt = self.calls.count(body)
            self.calls.append(body)
            self.headers.append(headers)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = self.behave(body, attempt)
            time.sleep(reply.delay)
            return reply
        finally:
            with self.lock:
                self._at_once -= 1

    def finish_batches(self, status: str = "completed", *, fail: Callable[[dict], dict | None] | None = None) -> None:
        """Answer all batches as `behave` does, or with the row that `fail` gives for a request."""
        for batch in self.batches.values():
            if batch["status"] != "in_progress":
                continue
            rows = [json.loads(line) for line in self.files[batch["input_file_id"]].split("\n") if line]
            good, bad = [], []
            for row in rows:
                if failure := fail(row) if fail else None:
                    bad.append({"custom_id": row["custom_id"], **failure})
                else:
                    body = self.behave(row["body"], 0).body
                    good.append({"custom_id": row["custom_id"], "response": {"status_code": 200, "body": body}})
            batch["status"] = status
            for name, lines in (("output_file_id", good), ("error_file_id", bad)):
                if lines:
                    batch[name] = self.add_file("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))

    def add_file(self, text: str) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = text
        return name

    def new_batch(self, body: dict) -> dict:
        name = f"batch_{len(self.batches)}"
        rows = self.files[body["input_file_id"]].count("\n")
        self.batches[name] = {
            "id": name, "object": "batch", "status": "in_progress", "created_at": 0, **body,
            "request_counts": {"total": rows, "completed": 0, "failed": 0},
        }  # fmt: skip
        return self.batches[name]


class _Handler(BaseHTTPRequestHandler):
    memory: ChatServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/chat/completions":
            body = json.loads(raw)
            self._send(self.memory.chat(body, {name.lower(): value for name, value in self.headers.items()}))
            self.memory.answered.append(body["messages"][-1]["content"])
        elif self.path == "/v1/files":
            boundary = re.search("boundary=(.+)", self.headers["Content-Type"])[1].encode()
            part = next(p for p in raw.split(b"--" + boundary) if b'name="file"' in p)
            self._send(
                Reply({"id": self.memory.add_file(part.split(b"\r\n\r\n", 1)[1][:-2].decode()), "object": "file"})
            )
        elif self.path == "/v1/batches":
            reply = self.memory.say_batch(self.memory.new_batch(json.loads(raw)))
            time.sleep(reply.delay)
            self._send(reply)
        else:
            self._send(Reply(error("no such path"), 404))

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/v1/").split("/")
        if path == ["batches"]:
            self._send(Reply({"object": "list", "data": list(self.memory.batches.values()), "has_more": False}))
        elif path[0] == "batches" and path[1] in self.memory.batches:
            self._send(Reply(self.memory.batches[path[1]]))
        elif path[0] == "files" and path[1] in self.memory.files:
            self._send(Reply(self.memory.files[path[1]]))
        else:
            self._send(Reply(error("not found"), 404))

    def _send(self, reply: Reply) -> None:
        content = (reply.body if isinstance(reply.body, str) else json.dumps(reply.body)).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **reply.headers}
        try:
            self.send_response(reply.status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):  # the client gave up, or was killed
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@contextmanager
def serving(behave: Callable[[dict, int], Reply] = echo) -> Iterator[ChatServer]:
    """A server for the length of a block."""
    server = ChatServer(behave)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def numbered(count: int) -> list[list[dict[str, str]]]:
    return [messages(f"question {number}") for number in range(count)]
