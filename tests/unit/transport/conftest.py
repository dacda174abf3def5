"""A real Valkey, a broker of its own for each test, and connections to it as Celery's worker makes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
import redis
from kombu import Connection

from limits.client.connection import Server
from limits.client.scripts import Call
from limits.keys import Keys
from tests.support.valkey import own_valkey
from workers.transport import in_flight
from workers.transport.broker import Broker, Claimed, Source
from workers.transport.channel import Transport
from workers.transport.queues import lists

_numbers = count(1)


class World:
    """One broker: a namespace on the server, and what a test does to it."""

    def __init__(self, client: "redis.Redis", port: int, prefix: str = "") -> None:
        self.client = client
        self.port = port
        self.keys = Keys(f"test-{next(_numbers)}")
        self.broker = Broker(self.keys, prefix)
        self.queue = f"workflow.{self.keys.namespace}"
        self._fetches = count(0, 1_000)

    def run(self, call: Call[Any]) -> Any:
        return Server(self.client).run(call)

    def claim(self, *sources: Source, most: int = 10, ordinary: int | None = None, with_ready: bool = False) -> Claimed:
        """Claim as a worker that sends no heartbeats."""
        found: Claimed = self.run(
            self.broker.claim(
                sources or tuple(Source(name) for name in lists(self.queue)),
                most=most,
                ordinary=most if ordinary is None else ordinary,
                owner="tester.",
                number=next(self._fetches),
                with_ready=with_ready,
            )
        )
        return found

    def push(self, *messages: str, queue: str = "") -> None:
        for message in messages:
            self.run(self.broker.publish(queue or self.queue, message))

    @contextmanager
    def connection(self, *, timeout: float = 60.0, **options: Any) -> Iterator[Connection]:
        """A connection over the transport under test."""
        settings = {
            "namespace": self.keys.namespace,
            "visibility_timeout": timeout,
            "global_keyprefix": self.broker.prefix,
            **options,
        }
        with Connection(f"redis://127.0.0.1:{self.port}/0", transport=Transport, transport_options=settings) as found:
            yield found

    def leave(self) -> None:
        """End what the process keeps of this broker, as the process's end would."""
        for key, found in list(in_flight._by_broker.items()):
            if found.broker == self.broker:
                found.close()
                in_flight._by_broker.pop(key, None)


@pytest.fixture(scope="session")
def port() -> Iterator[int]:
    with own_valkey() as server:
        yield server.port


@pytest.fixture
def client(port: int) -> Iterator["redis.Redis"]:
    connection = redis.Redis(port=port)
    yield connection
    connection.close()


@pytest.fixture
def world(client: "redis.Redis", port: int) -> Iterator[World]:
    """A broker whose keys are gone, or have a lifetime, when its messages are."""
    client.flushall()
    found = World(client, port)
    yield found
    found.leave()
    if client.exists(*lists(found.queue)):
        return  # the test has left messages
    left = [key for key in client.scan_iter(count=1000) if client.ttl(key) == -1 and b"_kombu.binding" not in key]
    assert not left, f"keys without a lifetime: {left}"
