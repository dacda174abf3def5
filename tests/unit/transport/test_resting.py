"""A worker whose messages are all held back by its own gates rests: it asks its server little, and goes on at once."""

import time
from collections.abc import Callable, Iterator

import pytest
from kombu import Queue
from kombu.asynchronous import Hub

from tests.unit.transport.conftest import World
from tests.unit.transport.reader import publish
from workers.transport import fetch
from workers.transport.fair_share import FairShare
from workers.transport.fetch import REFRESH
from workers.transport.policy import Policy


class Gate:
    """How many messages may be claimed, None for any number, and what has come of it."""

    def __init__(self) -> None:
        self.allowed: int | None = 0
        self.came: list[str] = []

    def policy(self, queue: str) -> Policy:
        """How any queue is treated."""
        del queue
        return Policy(allowed=self.allowed)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(FairShare, "policy", staticmethod(gate.policy))
    return gate


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


def turn(hub: Hub, seconds: float, until: Callable[[], object] = lambda: None) -> None:
    """Let the hub turn for `seconds`, every five milliseconds at least, or until `until` is true."""
    loop, ends = hub.create_loop(), time.monotonic() + seconds
    ticking = hub.call_repeatedly(0.005, lambda: None)
    while time.monotonic() < ends and not until():
        next(loop)
    ticking.cancel()


def test_a_worker_rests_while_its_gates_are_closed(
    world: World, hub: Hub, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(world, "held")
    with world.connection() as connection:
        connection.transport.register_with_event_loop(connection.connection, hub)
        consumer = connection.Consumer([Queue(world.queue)], accept=["json"], prefetch_count=10)
        consumer.register_callback(lambda body, message: (gate.came.append(body), message.ack()))
        consumer.consume()
        turn(hub, 2 * REFRESH)
        line = connection.default_channel.client.connection
        sent: list[str] = []
        send = line.send_command
        line.send_command = lambda name, *rest, **options: (sent.append(name), send(name, *rest, **options))[1]
        turn(hub, 4 * REFRESH)
        assert gate.came == []
        assert 2 <= sent.count("EVALSHA") <= 5, "what is ready is asked for four times a second"
        assert "BLPOP" not in sent
        monkeypatch.setattr(fetch, "REFRESH", 3600.0)
        turn(hub, 2 * REFRESH)  # from now on only a gate ends its rest
        gate.allowed = None
        turn(hub, 10.0, lambda: gate.came)
        assert gate.came == ["held"]
