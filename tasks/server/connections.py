"""One connection, which is closed if its client sends a request too slowly or doesn't read the answer.

uvicorn itself has neither limit, and none for the size of headers.
"""

import asyncio
import socket
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Seconds for a request's headers to arrive.
HEADER_TIMEOUT: Final = 20.0

#: Bytes of a request's address and headers. The parser keeps them until they are complete.
MAX_HEADERS: Final = 64 << 10

#: Seconds for which an answer may stay unread in the kernel's buffers.
UNREAD_TIMEOUT: Final = 60.0


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with limits."""

    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        found: socket.socket | None = transport.get_extra_info("socket")
        if found is not None and found.family in {socket.AF_INET, socket.AF_INET6}:
            option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
            if option is not None:
                found.setsockopt(socket.IPPROTO_TCP, option, int(UNREAD_TIMEOUT * 1000))
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._deadline is not None:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADERS and not self.transport.is_closing():
                self.send_400_response("The headers are too large.")

    def on_message_begin(self) -> None:
        self._header_bytes = 0
        if self._deadline is None:
            self._await_headers()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(HEADER_TIMEOUT, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        transport: Any = self.transport
        transport.abort()
