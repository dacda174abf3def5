"""Streamed live calls that do not end well: clients that hang up or never read, providers and servers that die."""

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields
from typing import Any

import httpx
import openai
import pytest

from limits.client.connection import Server
from tasks.monitoring import costs
from tests.support.api import CLIENTS, KEYS, ONE, Api, api_fixture, served
from tests.support.raw_provider import STREAM_HEAD, Call, RawProvider, answered, chunk, completion, event
from tests.support.site import KEY, Site, wait_for
from tests.support.toml import PRICES, provider

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}

#: What the usage costs, in n$.
COST = 10_000 + 2 * 5_000


class Scripted:
    """A provider whose streams wait in their middle until `go_on` is set, and then end as `end` says."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.end = "whole"
        self.provider = RawProvider(self.answer)

    def answer(self, call: Call) -> bytes | AsyncIterator[bytes]:
        if call.body.get("stream"):
            return self._stream()
        return self._whole()

    async def _whole(self) -> AsyncIterator[bytes]:
        await asyncio.to_thread(self.go_on.wait, 60)
        yield answered(completion("whole", **USAGE))

    async def _stream(self) -> AsyncIterator[bytes]:
        yield STREAM_HEAD + chunk(event("one"))
        await asyncio.to_thread(self.go_on.wait, 60)
        if self.end == "dies":
            raise ConnectionError
        if self.end == "large":
            for _ in range(300):
                yield chunk(event("x" * 65_536))
        yield chunk(event("two") + event(reason="stop", usage=USAGE) + b"data: [DONE]\n\n") + chunk(b"")


@pytest.fixture(scope="module", name="scripted")
def _scripted() -> Iterator[Scripted]:
    made = Scripted()
    with made.provider:
        yield made
        made.go_on.set()


@pytest.fixture(autouse=True)
def _as_new(scripted: Scripted) -> None:
    scripted.go_on.clear()
    scripted.end = "whole"
    scripted.provider.calls.clear()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, scripted: Scripted) -> Iterator[Site]:
    toml = "visibility_timeout = 3.0\n" + provider(scripted.provider.base_url, models={"small": PRICES}) + CLIENTS
    with Site(tmp_path_factory.mktemp("streams"), toml=toml, environment={**KEYS, "ACME_KEY": KEY}) as made:
        yield made


api = api_fixture()


def chat(stream: bool = True, text: str = "hello") -> dict[str, Any]:
    return {
        "model": "acme/small",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 50,
        "stream": stream,
    }


class Books:
    """What calls have cost since the test began."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.before = self._read()

    def _read(self) -> costs.Spent:
        with self.site.client() as client:
            return costs.read(Server(client), self.site.keys, costs.today()).total

    def now(self) -> costs.Spent:
        found = self._read()
        return costs.Spent(*(getattr(found, each.name) - getattr(self.before, each.name) for each in fields(found)))

    def settled(self, calls: int = 1, seconds: float = 30.0) -> costs.Spent:
        """The cost of `calls` calls, once they are settled."""
        wait_for(lambda: max(self.now().calls, self.now().presumed) == calls, seconds, what="settlement")
        return self.now()


@pytest.fixture
def books(site: Site) -> Books:
    return Books(site)


def raw(api: Api, body: dict[str, Any]) -> socket.socket:
    """A connection on which a call is under way."""
    host, _, port = api.url.removeprefix("http://").removesuffix("/v1").partition(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.settimeout(30.0)
    made.connect((host, int(port)))
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ONE}\r\n"
    made.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    return made


def test_events_come_one_by_one_and_a_client_that_hangs_up_is_billed(
    api: Api, scripted: Scripted, books: Books
) -> None:
    with raw(api, chat()) as connection:
        head = b""
        while b"one" not in head:  # while the provider still waits
            head += connection.recv(4_096)
        assert b"x-overnight-target: acme/small" in head
        assert b"two" not in head
    scripted.go_on.set()
    found = books.settled()
    assert (found.cost, found.presumed_cost, found.failed_cost) == (COST, 0, 0)


def test_a_client_that_hangs_up_before_a_whole_answer_is_billed(api: Api, scripted: Scripted, books: Books) -> None:
    with raw(api, chat(stream=False)):
        wait_for(lambda: scripted.provider.calls["hello"], what="the call")
    scripted.go_on.set()
    assert books.settled().cost == COST


def test_a_provider_that_dies_in_the_middle_ends_the_stream_with_an_error(
    api: Api, scripted: Scripted, books: Books
) -> None:
    scripted.end = "dies"
    with api.sdk() as client, client.chat.completions.create(**chat()) as stream:
        assert next(stream).choices[0].delta.content == "one"
        scripted.go_on.set()
        with pytest.raises(openai.APIError) as found:
            list(stream)
    assert found.value.code in {"broken_body", "connection_lost"}
    booked = books.settled()
    assert booked.cost == 0
    assert booked.presumed == 1
    assert COST < booked.total < 400_000, "its ceiling is presumed"
    assert scripted.provider.calls["hello"] == 1, "it is not called again"


@pytest.mark.long
@pytest.mark.parametrize("stream", [True, False])
def test_a_server_killed_during_an_answer_leaves_what_the_provider_may_bill(
    site: Site, scripted: Scripted, books: Books, stream: bool
) -> None:
    with served(site) as dies, raw(dies, chat(stream=stream)) as connection:
        wait_for(lambda: scripted.provider.calls["hello"], what="the call")
        while stream and b"one" not in connection.recv(4_096):
            pass
        assert books.now().calls == 0
        dies.process.process.kill()
        dies.process.process.wait(10.0)
    with served(site) as other:  # it sweeps what the dead one held
        booked = books.settled()
        assert booked.presumed == 1
        assert COST < booked.total < 400_000
        scripted.go_on.set()
        with other.sdk() as client:
            answer = client.chat.completions.create(**chat(stream=False, text="again"))
        assert answer.choices[0].message.content == "whole"
    assert scripted.provider.calls["hello"] == 1, "it is not called again"


@pytest.mark.long
def test_a_client_that_never_reads_holds_up_nobody(api: Api, scripted: Scripted, books: Books) -> None:
    """A stream of 20 MB: the server keeps a bounded part of it, and lets go of the client after half a minute."""
    scripted.end = "large"
    scripted.go_on.set()
    with raw(api, chat(text="large")) as connection:
        wait_for(lambda: scripted.provider.calls["large"], what="the call")
        with api.sdk() as client:
            client.chat.completions.create(**chat(stream=False))
        assert api.process.memory() < 200 << 20
        assert books.settled(2, 60.0).cost == 2 * COST
        assert connection.fileno() > 0
    with httpx.Client(trust_env=False) as plain:
        assert plain.get(f"{api.url.removesuffix('/v1')}/healthz").status_code == 200


@pytest.mark.long
def test_a_silent_redis_is_503_in_the_time_that_the_client_waits(site: Site, api: Api, scripted: Scripted) -> None:
    scripted.go_on.set()
    hurried = {"X-Overnight-Max-Wait": "1"}
    redis = site.redis_pid()
    with api.sdk() as client:
        os.kill(redis, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(openai.InternalServerError) as found:
                client.chat.completions.create(**chat(stream=False), extra_headers=hurried)
            assert time.monotonic() - began < 6.0
        finally:
            os.kill(redis, signal.SIGCONT)
        assert found.value.status_code == 503
        assert int(found.value.response.headers["retry-after"]) > 0
        assert not scripted.provider.calls
        assert client.chat.completions.create(**chat(stream=False)).choices[0].message.content == "whole"


@pytest.mark.long
def test_a_server_that_is_stopped_lets_its_streams_end(site: Site, scripted: Scripted, books: Books) -> None:
    with served(site) as stops:
        with stops.sdk() as client, client.chat.completions.create(**chat()) as stream:
            assert next(stream).choices[0].delta.content == "one"
            stops.process.process.terminate()
            threading.Timer(0.5, scripted.go_on.set).start()
            assert [each.choices[0].delta.content for each in stream] == ["two", None]
        assert stops.process.process.wait(20.0) in {0, -signal.SIGTERM}
    found = books.settled()
    assert (found.cost, found.presumed) == (COST, 0)
