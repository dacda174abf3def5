"""A provider whose every answer a test writes, byte by byte, on loopback.

    def reply(call: Call) -> Reply:
        return refusal(403, {"error": {"code": "model_not_found"}}) if call.model == "n" else completion("fine")

    with AnsweringProvider(reply) as provider:
        ...
        assert len(provider.calls) == 20

It counts nothing and limits nothing. `reply` runs in the connection's thread.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its path, its body and its key, when it came (monotonic seconds), and how many came before it."""

    path: str
    body: dict[str, Any]
    key: str
    at: float
    number: int

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def text(self) -> str:
        """What the last message says."""
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back."""

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


def completion(content: str, **headers: str) -> Reply:
    """A chat completion of a few tokens."""
    message = {"role": "assistant", "content": content}
    body = {
        "id": "c",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }
    return Reply(200, json.dumps(body), _named(headers))


def message(content: str) -> Reply:
    """The same in Anthropic's format."""
    body = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": content}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 2},
    }
    return Reply(200, json.dumps(body))


def refusal(status: int, body: Any, **headers: str) -> Reply:
    """A refusal with a JSON body; with text if `body` is a string."""
    return Reply(status, body if isinstance(body, str) else json.dumps(body), _named(headers))


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class AnsweringProvider:
    """Answers each POST with what `reply` returns."""

    def __init__(self, reply: Callable[[Call], Reply]) -> None:
        self.reply = reply
        self.calls: list[Call] = []
        self._lock = threading.Lock()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                key = self.headers.get("authorization", "").removeprefix("Bearer ") or self.headers.get("x-api-key", "")
                reply = provider.reply(provider.note(self.path, body, key))
                content = reply.body.encode()
                self.send_response(reply.status)
                kind = "text/html" if reply.body.startswith("<") else "application/json"
                for name, value in {"content-type": kind, "content-length": str(len(content)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 256

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def note(self, path: str, body: dict[str, Any], key: str) -> Call:
        with self._lock:
            call = Call(path, body, key, time.monotonic(), len(self.calls))
            self.calls.append(call)
            return call

    def models(self) -> list[str]:
        """The model of each call so far."""
        return [call.model for call in self.calls]

    def clear(self) -> None:
        self.calls.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
