"""One connection, which is closed if its client sends a request too slowly or doesn't read the answer.

uvicorn itself has neither limit, and none for the size of headers.
"""

import asyncio
import functools
import resource
import socket
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Seconds for a request's headers to arrive.
HEADER_TIMEOUT: Final = 20.0

#: Bytes of a request's address and headers, and later of anything else that is not its body. The parser keeps them.
MAX_HEADERS: Final = 64 << 10

#: Connections at a time, if the limit of open files allows twice as many.
MOST: Final = 20_000

#: Seconds for which an answer may stay unread in the kernel's buffers.
UNREAD_TIMEOUT: Final = 60.0


@functools.cache
def most() -> int:
    """The connections at a time. The other half of the open files is for connections to providers, and files."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if limit == resource.RLIM_INFINITY else min(MOST, limit // 2)


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with limits."""

    #: Closes the connection if the headers take too long; None once they are complete.
    _deadline: asyncio.TimerHandle | None = None
    #: Bytes since the last piece of a body: headers, what frames chunks, and trailers.
    _around = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        found: socket.socket | None = transport.get_extra_info("socket")
        if found is not None and found.family in {socket.AF_INET, socket.AF_INET6}:
            option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
            if option is not None:
                found.setsockopt(socket.IPPROTO_TCP, option, int(UNREAD_TIMEOUT * 1000))
        if len(self.connections) > most():
            transport.abort()
        else:
            self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._around += len(data)
        super().data_received(data)
        if self._around > MAX_HEADERS and not self.transport.is_closing():
            if self._deadline is not None:
                self.send_400_response("The headers are too large.")
            else:
                self.transport.abort()

    def on_message_begin(self) -> None:
        if self._deadline is None:
            self._await_headers()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._deadline is not None:  # else it is a trailer, which a proxy has not checked
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._around = 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._around = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._around = 0
        super().on_message_complete()

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(HEADER_TIMEOUT, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        self.transport.abort()
