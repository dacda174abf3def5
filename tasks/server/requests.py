"""Around every request: it gets an id, its client is found, its errors become responses, and it is logged.

The log has a line for each request: id, client, method, route, status, milliseconds. The route is the template, such
as `/v1/files/{file_id}`; no key, query, prompt or answer is in it.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request

from tasks.server import errors
from tasks.server.bodies import release
from tasks.server.errors import ApiError, as_api_error, unavailable
from workers.ids import unique_id

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from tasks.server.resources import Resources

log = logging.getLogger("overnight.requests")

#: Seconds for which the server waits for a body. Waiting uses them up; what arrives earns them again at `BODY_RATE`.
BODY_GRACE: Final = 30.0

#: Bytes a second that a client must send on average.
BODY_RATE: Final = 16_384

#: Seconds for which the rest of a refused body is read.
LINGER: Final = 5.0

#: Paths that need no key.
OPEN: Final = frozenset({"/", "/healthz", "/openapi.json"})

#: The status in the log of a request whose client hung up before it was answered.
GONE: Final = 499


class Requests:
    """The outermost layer of the application."""

    def __init__(self, app: "ASGIApp", paths: Mapping[Any, str]) -> None:
        self.app = app
        self.paths = paths

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        try:
            if scope["path"] not in OPEN:
                found: Resources = scope["app"].state.resources
                scope["overnight.client"] = found.clients.find(exchange.headers)
            await self.app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = exchange.status or GONE
        except asyncio.CancelledError:
            await exchange.stop()
        except Exception as exc:  # noqa: BLE001 - whatever a route raises, the client gets an answer
            await exchange.fail(exc)
        finally:
            release(scope)
            exchange.report(self.paths.get(scope.get("endpoint"), "-"))


class Exchange:
    """One request and its response."""

    def __init__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        self.scope = scope
        self.headers = Headers(scope=scope)
        self.id = scope["overnight.request_id"] = f"req_{unique_id()}"
        self.began = time.perf_counter()
        self.status = 0
        self._receive, self._send = receive, send
        self._read_all = "transfer-encoding" not in self.headers and self.headers.get("content-length", "0") == "0"
        self._patience = BODY_GRACE

    async def receive(self) -> "Message":
        """The next part of the body. ApiError 408 if the client sends too slowly."""
        if self._read_all:
            return await self._receive()
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._patience):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(408, "The body of the request comes too slowly.", code="request_timeout") from None
        earned = len(message.get("body", b"")) / BODY_RATE
        self._patience = min(BODY_GRACE, self._patience - (time.perf_counter() - began) + earned)
        self._read_all = not message.get("more_body", False)
        return message

    async def send(self, message: "Message") -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = headers["request-id"] = self.id  # as OpenAI's SDKs read it, and Anthropic's
            if not self._read_all:
                headers["connection"] = "close"
        elif not self._read_all and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        """Read what the client still sends: it may lose the answer if the connection closes with unread data."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while (await self._receive()).get("more_body", False):
                    pass

    async def fail(self, exc: Exception) -> None:
        """Answer with the error, or close the connection if the response has begun."""
        error = as_api_error(exc)
        if error is None:
            log.error("%s failed", self.id, exc_info=exc)
            error = ApiError(500, f"The server had an error. Its log says more: {self.id}.", code="server_error")
        if self.status:
            self.status = GONE
            raise exc
        await errors.response(error, self.scope["path"])(self.scope, self.receive, self.send)

    async def stop(self) -> None:
        """The server is stopping, and has waited long enough for this request. Answer 503 if nothing was answered."""
        if not self.status:
            self._read_all = True  # wait for no more of it
            error = unavailable("The server is stopping; try again soon.", 1.0)
            await errors.response(error, self.scope["path"])(self.scope, self.receive, self.send)

    def report(self, path: str) -> None:
        """Write the line of the log; `path` is the route's template."""
        client = self.scope.get("overnight.client")
        log.info(
            "%s client=%s %s %s %d %.1f ms",
            self.id,
            client.name or "-" if client is not None else "-",
            self.scope["method"],
            path,
            self.status,
            (time.perf_counter() - self.began) * 1000,
        )


def request_id(request: Request) -> str:
    """The request's id, which is also the response's `x-request-id`."""
    found: str = request.scope["overnight.request_id"]
    return found
