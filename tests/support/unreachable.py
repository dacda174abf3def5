"""Addresses that nothing can be sent to, each for another reason; all on loopback.

    with unreachable("backlog", monkeypatch) as base_url: ...

backlog   the listener's queue is full and never accepted from, so that SYNs are dropped
tls       a connection is made, and its TLS handshake never answered
hangs_up  a connection is made, and closed in the middle of its TLS handshake
proxy     a proxy refuses to connect to it
dns       its name is looked up for half a second, which is longer than these tests wait
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

#: Seconds; a loop that closes waits for its look-ups.
LOOK_UP = 0.5

KINDS = ("backlog", "tls", "hangs_up", "proxy", "dns")


@contextmanager
def unreachable(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The base URL of a provider that cannot be reached."""
    with ExitStack() as stack:
        match kind:
            case "backlog":
                yield f"http://127.0.0.1:{stack.enter_context(full_backlog())}"
            case "tls":
                yield f"https://127.0.0.1:{stack.enter_context(answering(None))}"
            case "hangs_up":
                yield f"https://127.0.0.1:{stack.enter_context(answering(b''))}"
            case "proxy":
                port = stack.enter_context(answering(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"))
                monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
                yield "https://provider.invalid"
            case "dns":
                stack.enter_context(hanging_names(monkeypatch))
                yield "http://provider.invalid"
            case _:
                raise ValueError(kind)


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port of loopback that takes no more connections: those in its queue are never accepted."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = int(listener.getsockname()[1])
        while True:
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0.2)
            try:
                waiting.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        yield port


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """A port whose connections get `answer` to their first bytes and are closed then; None: never an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if answer is not None:
            threading.Thread(target=_answer, args=(listener, answer), daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)  # ends the thread's accept


def _answer(listener: socket.socket, answer: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(1 << 16)
            connection.sendall(answer)


@contextmanager
def hanging_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look-ups of names hang for half a second at most, as with a resolver that drops what it is sent."""
    over = threading.Event()
    resolve: Callable[..., Any] = socket.getaddrinfo

    def hang(host: Any, *args: Any, **options: Any) -> Any:
        if host is not None and not str(host)[-1:].isdigit():
            over.wait(LOOK_UP)
        return resolve(host, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", hang)
        try:
            yield
        finally:
            over.set()
