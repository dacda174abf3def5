"""A stream that is passed on as it comes, event by event, to someone who waits for it.

Nothing of it is kept but what stream_state.py notes. Until the first event has come nothing is passed on, so a call
that fails before can go to another provider. An event that reports an error is not passed on: it ends the call with a
ProviderError. Neither is a usage for which the reader did not ask.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from workers.providers import sse
from workers.providers.answer import Sink
from workers.providers.client import AnswerTooLarge, read_whole
from workers.providers.endpoints import CHAT, LARGEST_ANSWER
from workers.providers.stream_state import StreamState

#: The empty line that ends an event.
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")

#: Bytes of that line at most, less one: it may have come in two pieces.
_LONGEST_END: Final = 3

#: Shorter keys are not removed, since they could be any word. Characters.
_SHORTEST_KEY: Final = 8


class Relay:
    """Passes one stream on. `key` is removed from it."""

    def __init__(self, url: str, body: Mapping[str, Any], key: str, sink: Sink) -> None:
        self._state = StreamState(url)
        self._hides_usage = url == CHAT and not sse.wants_usage(body)
        self._key = key.encode() if len(key) >= _SHORTEST_KEY else b""
        self._sink = sink
        self.is_stream = False
        """Whether the answer was a stream."""

    def summary(self) -> dict[str, Any] | None:
        """The answer without its content, or its error; None if it broke off."""
        return self._state.summary()

    async def read(self, status: int, headers: Mapping[str, str], content: aiohttp.StreamReader) -> bytes:
        """Read an answer: pass it on if it is a stream, and return it if it isn't."""
        self.is_stream = status < 300 and headers.get("content-type", "").startswith(sse.EVENT_STREAM)  # noqa: PLR2004
        if not self.is_stream:
            return await read_whole(status, headers, content)
        rest, size = bytearray(), 0
        async for chunk in content.iter_any():
            size += len(chunk)
            if size > LARGEST_ANSWER:
                raise AnswerTooLarge
            searched = max(0, len(rest) - _LONGEST_END)
            rest += chunk
            begin, passed = 0, []
            for end in _EVENT_END.finditer(rest, searched):
                passed.append(self._passed(bytes(rest[begin : end.end()])))
                begin = end.end()
            del rest[:begin]
            await self._write(b"".join(passed))
        if rest:
            await self._write(self._passed(bytes(rest)))
        return b""

    async def _write(self, events: bytes) -> None:
        if events:
            await self._sink.write(events)

    def _passed(self, block: bytes) -> bytes:
        """What is passed on of a block of lines."""
        hidden = False
        for event in sse.events(block):
            self._state.take(event)
            hidden = hidden or (self._hides_usage and sse.is_usage_alone(event))
        if hidden or self._state.error:
            return b""
        return block.replace(self._key, b"[key]") if self._key and self._key in block else block
