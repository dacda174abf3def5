"""The response to a live call: its headers, and the events of a stream as they arrive.

If a client hangs up or reads too slowly, its stream ends. The call itself continues: the provider bills all of it, and
reports the usage at the end.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import orjson

from limits.budget import NANO
from tasks.server.errors import ApiError, anthropic_body
from workers.providers.endpoints import MESSAGES
from workers.providers.sse import EVENT_STREAM

if TYPE_CHECKING:
    from starlette.types import Send

    from tasks.jobs.attempt import Attempt

#: Seconds in all that a stream waits for a client that reads too slowly.
PATIENCE: Final = 30.0


class LiveResponse:
    """One response. `cost` is in n$; `attempt` is the call's latest."""

    def __init__(self, url: str, send: "Send") -> None:
        self.url = url
        self.attempt: Attempt | None = None
        self.cost = 0
        self.begun = False
        self.gone = False
        self._send_message = send
        self._patience = PATIENCE

    async def write(self, events: bytes) -> None:
        """Send events; the first ones begin the response."""
        if not self.begun:
            self.begun = True
            headers = [
                *self._headers(EVENT_STREAM),
                (b"x-accel-buffering", b"no"),
            ]  # nginx passes the events on at once
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": events, "more_body": True})

    async def end(self) -> None:
        """End the stream with a comment that contains its cost, which was not known when the headers were sent."""
        words = f": overnight cost_usd={self.cost / NANO:.9f}\n\n"
        await self._send({"type": "http.response.body", "body": words.encode(), "more_body": False})

    async def break_off(self, error: ApiError) -> None:
        """End a failed stream with an error event."""
        if self.url == MESSAGES:
            event = b"event: error\ndata: " + orjson.dumps(anthropic_body(error)) + b"\n\n"
        else:
            event = b"data: " + orjson.dumps(error.body) + b"\n\n"
        await self._send({"type": "http.response.body", "body": event, "more_body": False})

    async def whole(self, content: bytes) -> None:
        """Send a whole answer."""
        headers = self._headers("application/json")
        headers += [(b"content-length", b"%d" % len(content)), (b"x-overnight-cost-usd", self._cost())]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": content})

    def _headers(self, content_type: str) -> list[tuple[bytes, bytes]]:
        assert self.attempt is not None
        return [
            (b"content-type", content_type.encode()),
            (b"cache-control", b"no-store"),
            (b"x-overnight-lane", self.attempt.lane.encode()),
            (b"x-overnight-target", self.attempt.route.target.encode("ascii", "replace")),
        ]

    def _cost(self) -> bytes:
        return f"{self.cost / NANO:.9f}".encode()

    async def _send(self, message: dict[str, Any]) -> None:
        if self.gone:
            return
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._patience):
                await self._send_message(message)
        except (TimeoutError, OSError):
            self.gone = True
        self._patience -= time.monotonic() - began
