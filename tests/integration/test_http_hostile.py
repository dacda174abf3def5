"""Hostile clients of the HTTP server: too slow, without end, or deaf. Each loses its own connection, no more."""

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from openai import OpenAI

from tasks.server.connections import HEADER_TIMEOUT, UNREAD_TIMEOUT
from tasks.server.live_response import PATIENCE
from tasks.server.multipart import MAX_REST
from tasks.server.requests import BODY_GRACE
from tests.support.api import CLIENTS, KEYS, ONE, TWO, Api, api_fixture, upload
from tests.support.raw_provider import STREAM_HEAD, Call, RawProvider, answered, chunk, completion, event
from tests.support.site import KEY, Site, wait_for
from tests.support.toml import PRICES, provider

MB = 1 << 20

#: Clients of each kind at a time.
MANY = 40

#: Bytes that the kernel of either side may keep for a client that doesn't read.
KERNEL = 16 * MB

#: Memory for all of them.
MORE = 130 * MB

#: Connections to Redis, which the server keeps: one for each of its threads.
REDIS = 50


def answer(call: Call) -> bytes | AsyncIterator[bytes]:
    """What the provider answers: streams are of 24 MB."""
    return large() if call.body.get("stream") else answered(completion("whole"))


async def large() -> AsyncIterator[bytes]:
    yield STREAM_HEAD
    for _ in range(384):
        yield chunk(event("x" * 65_536))
    yield chunk(b"data: [DONE]\n\n") + chunk(b"")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with RawProvider(answer) as made:
        toml = provider(made.base_url, models={"small": PRICES}) + CLIENTS + "[server]\nmax_bodies_mb = 64\n"
        with Site(tmp_path_factory.mktemp("hostile"), toml=toml, environment={**KEYS, "ACME_KEY": KEY}) as found:
            yield found


api = api_fixture()


def connect(api: Api, request: bytes) -> socket.socket:
    """A connection with a small buffer, on which these bytes were sent."""
    host, _, port = api.url.removeprefix("http://").removesuffix("/v1").partition(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.settimeout(10.0)
    made.connect((host, int(port)))
    made.sendall(request)
    return made


def head(method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x", f"authorization: Bearer {ONE}", *headers]
    return ("\r\n".join(lines) + "\r\n").encode()


FORM = "content-type: multipart/form-data; boundary=B"

UPLOAD = head("POST", "/v1/files", FORM, "transfer-encoding: chunked") + b"\r\n"

PURPOSE = b'--B\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'

FILE = b'--B\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n{}\n'

CHAT: dict[str, Any] = {"model": "acme/small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


def test_a_form_that_goes_on_after_its_end_is_refused(api: Api) -> None:
    piece, sent = chunk(b"x" * 65_536), 0
    with connect(api, UPLOAD + chunk(PURPOSE + FILE + b"\r\n--B--\r\n")) as connection:
        with suppress(ConnectionError):
            while sent < 200 * MB and not readable(connection):
                connection.sendall(piece)
                sent += len(piece)
        assert b" 413 " in connection.recv(1_000).partition(b"\r\n")[0]
    assert MAX_REST < sent < MAX_REST + KERNEL


@pytest.mark.parametrize("piece", [b"{},", b"[],", b"1,"])
def test_a_body_of_millions_of_values_is_refused_before_it_is_read(api: Api, piece: bytes) -> None:
    before = api.process.peak()
    body = b'{"model":"acme/small","messages":[' + piece * (12 * MB // len(piece)) + b"{}]}"
    with api.http() as client:
        answer = client.post("chat/completions", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert api.process.peak() - before < 50 * MB


def test_the_bodies_of_one_client_are_bounded_and_others_go_on(api: Api) -> None:
    """Two bodies of 40 MB that never end, where 64 MB are allowed."""
    before = api.process.memory()
    request = head("POST", "/v1/chat/completions", "content-length: 50000000") + b"\r\n"
    with connect(api, request) as first, api.sdk(TWO) as other, api.sdk() as sdk:
        first.sendall(b" " * 40_000_000)
        with connect(api, request) as second:
            with suppress(ConnectionError):
                second.sendall(b" " * 40_000_000)
            assert b" 429 " in second.recv(1_000).partition(b"\r\n")[0]
        call(other)
        call(sdk)  # its own small bodies fit
        assert api.process.memory() - before < 100 * MB
    with api.sdk() as sdk:
        large = {**CHAT, "messages": [{"role": "user", "content": "x" * 40_000_000}]}
        wait_for(lambda: sdk.chat.completions.create(**large), what="a place for a large body")


def readable(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(10.0)


def closed(connection: socket.socket) -> bool:
    """Whether the server has closed this connection."""
    connection.setblocking(False)
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


class Dripping:
    """Sends a byte a second on each of its connections."""

    def __init__(self, connections: list[socket.socket]) -> None:
        self.connections = connections
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._drip)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _drip(self) -> None:
        while not self.ended.wait(1.0):
            for each in self.connections:
                with suppress(OSError):
                    each.send(b"x")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_slow_and_deaf_clients_lose_only_their_own_connections(api: Api) -> None:
    """Clients of six kinds at a time, against the real time limits."""
    with api.sdk() as sdk, ExitStack() as stack:
        file = upload(sdk, b"x" * 999 + b"\n" + b"y" * (24 * MB))
        call(sdk)
        memory, handles = api.process.memory(), api.process.handles()

        def open_many(request: bytes) -> list[socket.socket]:
            return [stack.enter_context(connect(api, request)) for _ in range(MANY)]

        body = json.dumps({**CHAT, "stream": True}).encode()
        long_body = "content-length: 100000"
        slow_heads = open_many(head("GET", "/v1/files") + b"x-slow: ")
        slow_bodies = open_many(head("POST", "/v1/chat/completions", long_body) + b"\r\n{")
        uploads = open_many(UPLOAD + chunk(PURPOSE + FILE))
        uploads += open_many(UPLOAD + chunk(PURPOSE + FILE + b"x" * MB))  # a fast start earns no longer wait
        open_many(head("GET", f"/v1/files/{file}/content") + b"\r\n")
        open_many(head("POST", "/v1/chat/completions", f"content-length: {len(body)}") + b"\r\n" + body)
        began = time.monotonic()
        with Dripping([*slow_heads, *slow_bodies]):
            for _ in range(20):
                before = time.monotonic()
                call(sdk)
                assert time.monotonic() - before < 5.0
            # A connection each, and for most a file or a connection to the provider.
            assert api.process.handles() < handles + (6 + 4) * MANY + REDIS
            wait_for(lambda: all(map(closed, slow_heads)), HEADER_TIMEOUT + 10, what="the end of slow heads")
            assert time.monotonic() - began > HEADER_TIMEOUT - 2
            wait_for(lambda: all(map(readable, slow_bodies)), BODY_GRACE + 10, what="the end of slow bodies")
            wait_for(lambda: all(map(readable, uploads)), BODY_GRACE + 10, what="the end of half-open uploads")
            grown = api.process.memory() - memory
            assert grown < MORE, f"{grown / MB:.0f} MB more"
        assert {each.recv(12) for each in (*slow_bodies, *uploads)} == {b"HTTP/1.1 408"}
        until = UNREAD_TIMEOUT + PATIENCE + 30
        wait_for(lambda: api.process.handles() < handles + REDIS, until, what="the end of clients that never read")
        call(sdk)


def call(sdk: OpenAI) -> None:
    """A live call."""
    sdk.chat.completions.create(**CHAT)
