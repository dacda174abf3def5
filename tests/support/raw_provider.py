"""A provider whose answers are whatever bytes a test wants: what no well-behaved server would send.

def answer(call: Call) -> bytes:
return answered(completion("Hi")) if call.count == 1 else answered(b"", status=503)

with RawProvider(answer) as provider:
...  # provider.base_url, provider.calls["a prompt"]

An answer may also come in pieces, from an asynchronous generator, with `streamed` for a stream of events.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

#: Instead of an answer: the connection is closed.
CLOSED = b"closed"


class Last(bytes):
    """An answer after which the connection is closed."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request: `text` is its prompt, which came `count` times so far; its connection carried `on_connection`."""

    text: str
    body: dict[str, Any]
    raw: bytes
    count: int
    on_connection: int


def answered(body: bytes | Mapping[str, Any] | list[Any], status: int = 200, **headers: str) -> bytes:
    """An HTTP answer; a keyword's `_` is a `-` in its header's name."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    lines = "".join(f"{name}: {text}\r\n" for name, text in names.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}content-length: {len(content)}\r\n\r\n".encode() + content


def streamed(*pieces: bytes, whole: bool = True) -> bytes:
    """An HTTP answer in these chunks, as a stream of events. If it isn't `whole`, its connection breaks off."""
    body = b"".join(chunk(piece) for piece in pieces)
    return STREAM_HEAD + body + chunk(b"") if whole else Last(STREAM_HEAD + body)


#: How a stream of events begins.
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(piece: bytes) -> bytes:
    """A chunk of a body; an empty one is its end."""
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def event(text: str | None = None, reason: str | None = None, **more: Any) -> bytes:
    """An event of a streamed chat completion."""
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


def completion(content: str | None, reason: str = "stop", **usage: Any) -> dict[str, Any]:
    """A chat completion of 10 and 5 tokens, by default."""
    message = {"role": "assistant", "content": content}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, **usage},
    }


def prompt_of(body: Mapping[str, Any]) -> str:
    """The text of the first message, or the input."""
    match body:
        case {"messages": [{"content": str(text)}, *_]} | {"input": str(text)} | {"input": [str(text), *_]}:
            return text
    return ""


async def _once(answer: bytes) -> AsyncIterator[bytes]:
    yield answer


class RawProvider:
    """The server, on an event loop in a thread of its own."""

    def __init__(self, answer: Callable[[Call], bytes | AsyncIterator[bytes]]) -> None:
        self.answer = answer
        self.calls: Counter[str] = Counter()
        self.seen: dict[str, Call] = {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.base_url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 26))
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        count = 0
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                count += 1
                length = int(head.partition("content-length:")[2].partition("\r\n")[0] or 0)
                raw = await reader.readexactly(length)
                body = json.loads(raw or b"{}")
                text = prompt_of(body)
                self.calls[text] += 1
                call = self.seen[text] = Call(text, body, raw, self.calls[text], count)
                answer = self.answer(call)
                if answer == CLOSED:
                    break
                for_each = answer if isinstance(answer, AsyncIterator) else _once(answer)
                async for piece in for_each:
                    writer.write(piece)
                    await writer.drain()
                if isinstance(answer, Last):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
