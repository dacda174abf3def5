"""A consumer of one queue over the transport, and what tests do beside it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kombu import Connection, Consumer, Queue

from tests.support.site import wait_for
from tests.unit.transport.conftest import World
from workers.transport.queues import Depth, depths

#: A message whose contents don't matter.
M = '{"body": "x"}'


class Reader:
    """A consumer of one queue, which keeps what it is given."""

    def __init__(self, connection: Connection, queue: str, prefetch: int = 10) -> None:
        self.connection = connection
        self.channel = connection.default_channel
        self.messages: list[Any] = []
        self.consumer = Consumer(
            self.channel, [Queue(queue)], on_message=self.messages.append, accept=["json"], prefetch_count=prefetch
        )
        self.consumer.consume()

    def read(self, count: int = 1, seconds: float = 5.0) -> list[Any]:
        """Wait for `count` messages and return them."""
        ends = time.monotonic() + seconds
        while len(self.messages) < count:
            assert time.monotonic() < ends, f"{len(self.messages)} of {count} messages within {seconds} s"
            self.drain()
        found, self.messages[:] = list(self.messages), []
        return found

    def drain(self, seconds: float = 0.1) -> None:
        with suppress(TimeoutError):
            self.connection.drain_events(timeout=seconds)


@contextmanager
def reading(world: World, prefetch: int = 10, **options: Any) -> Iterator[Reader]:
    with world.connection(**options) as connection:
        yield Reader(connection, world.queue, prefetch)


def publish(
    world: World, *bodies: Any, stock: bool = False, headers: dict[str, Any] | None = None, **more: Any
) -> None:
    """Publish over our transport, or as a stock producer over kombu's own."""
    if stock:
        options = {"global_keyprefix": world.broker.prefix}
        opened = Connection(
            f"redis://127.0.0.1:{world.port}/0", transport="kombu.transport.redis:Transport", transport_options=options
        )
    else:
        opened = world.connection().__enter__()
    with opened as connection, connection.Producer(serializer="json") as producer:
        for body in bodies:
            producer.publish(body, routing_key=world.queue, exchange="", headers=headers, **more)


def depth(world: World) -> Depth:
    return depths(world.client, world.keys, [world.queue], world.broker.prefix)[world.queue]


def settled(world: World, expected: Depth) -> None:
    wait_for(lambda: depth(world) == expected, 5.0, what=f"{expected}, found {depth(world)}")


def end(world: World, tags: list[str]) -> None:
    assert world.run(world.broker.acknowledge(tags)) == len(tags)
    assert depth(world) == Depth(0, 0, 0)


def take_all(world: World) -> list[str]:
    return [tag for tag, _ in world.claim(most=100).messages]
