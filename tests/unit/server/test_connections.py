"""One connection of the HTTP server: what it passes on, and when it is closed."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import uvicorn

from tasks.server import connections
from tasks.server.connections import MAX_HEADERS, Connection
from tests.support.site import wait_for


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the headers and the length of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message.get("more_body", False)
    found = {name.decode(): value.decode() for name, value in scope["headers"]}
    content = json.dumps({"headers": found, "size": size}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(content))]})
    await send({"type": "http.response.body", "body": content})


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(echo, http=Connection, ws="none", lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        wait_for(lambda: server.started, what="the server")
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(10)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10)


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\nx-client: one\r\ntransfer-encoding: chunked\r\n\r\n"


def answered(connection: socket.socket) -> Any:
    """The answer to a request that was sent."""
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"}"):
        piece = connection.recv(65_536)
        assert piece, received
        received += piece
    return json.loads(received.partition(b"\r\n\r\n")[2])


def test_trailers_are_no_headers(port: int) -> None:
    """A proxy in front may have removed such a header, but not such a trailer."""
    with connect(port) as connection:
        for _ in range(2):
            connection.sendall(CHUNKED + b"5\r\nhello\r\n0\r\nx-client: two\r\nx-workflow: secret\r\n\r\n")
            found = answered(connection)
            assert found == {"headers": {"host": "x", "x-client": "one", "transfer-encoding": "chunked"}, "size": 5}


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"GET / HTTP/1.1\r\nx-long: ", id="headers"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", id="lines between requests"),
        pytest.param(CHUNKED + b"5\r\nhello\r\n0\r\nx-long: ", id="trailers"),
        pytest.param(CHUNKED + b"5;", id="chunk extensions"),
    ],
)
def test_what_never_becomes_a_body_closes_the_connection(port: int, start: bytes) -> None:
    piece = b"\r\n" * 2_048 if start.startswith(b"GET / HTTP/1.1\r\nhost") else b"x" * 4_096
    sent = 0
    with connect(port) as connection:
        connection.sendall(start)
        with suppress(OSError):
            while sent < 1_000 * len(piece):
                connection.sendall(piece)
                sent += len(piece)
        assert sent < MAX_HEADERS + (6 << 20), "what the kernel takes, and no more"


def test_a_body_in_small_chunks_passes(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
        assert answered(connection)["size"] == 100_000


def test_connections_beyond_the_most_are_closed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "most", lambda: 3)
    kept = [connect(port) for _ in range(3)]
    for connection in kept:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answered(connection)["size"] == 0
    with connect(port) as refused:
        refused.settimeout(10)
        with suppress(ConnectionResetError):
            assert refused.recv(1) == b""
    kept[0].sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answered(kept[0])["size"] == 0
    kept.pop().close()

    def free() -> bool:
        with connect(port) as other:
            try:
                other.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                return bool(other.recv(1))
            except ConnectionError:
                return False

    wait_for(free, what="a place for another connection")
    for connection in kept:
        connection.close()
