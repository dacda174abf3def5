"""A webhook's receiver on loopback, which answers each call with what a test wants.

with Receiver(status(500), status(204)) as receiver:    # the last answer is given to all further calls
    ...  # receiver.url, receiver.requests[0].headers["webhook-id"]
"""

import socket
import ssl
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Received:
    """One call. The names of its headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in pieces, `pause` seconds apart. After the last one the connection stays open for `hold` seconds."""

    pieces: Iterable[bytes]
    pause: float = 0.0
    hold: float = 0.0


def status(code: int, **headers: str) -> Answer:
    """An answer with this status and no body."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return Answer([f"HTTP/1.1 {code} {HTTPStatus(code).phrase}\r\n{lines}content-length: 0\r\n\r\n".encode()])


def silent() -> Answer:
    """No answer at all."""
    return Answer([], hold=60.0)


def dripping(pause: float) -> Answer:
    """An answer of which a byte comes every `pause` seconds, and whose headers never end."""
    head = b"HTTP/1.1 200 OK\r\n" + b"x-more: more\r\n" * 10_000
    return Answer((head[index : index + 1] for index in range(len(head))), pause)


class Receiver:
    """The receiver; with `certificates` (tests/support/certificates.py) it speaks TLS."""

    def __init__(self, *answers: Answer, certificates: Path | None = None) -> None:
        self.answers = answers
        self.requests: list[Received] = []
        self._tls = _context(certificates)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._ended = threading.Event()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:  # SSLError is an OSError
            wrapped = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            with wrapped, wrapped.makefile("rb") as reading:
                first = reading.readline().decode().split()
                headers: dict[str, str] = {}
                while line := reading.readline().decode().strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                body = reading.read(int(headers.get("content-length", "0")))
                with self._lock:
                    self.requests.append(Received(first[1], headers, body))
                    answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
                for piece in answer.pieces:
                    wrapped.sendall(piece)
                    self._ended.wait(answer.pause)
                self._ended.wait(answer.hold)


def _context(certificates: Path | None) -> ssl.SSLContext | None:
    if certificates is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "certificate.pem", certificates / "key.pem")
    return context
