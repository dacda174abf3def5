"""A subscription without a hub, as Flower has it to workers' events, whose connection falls silent."""

from contextlib import suppress
from typing import Any

import pytest
from kombu import Connection, Consumer, Exchange, Queue

from tests.support.silent_proxy import SilentProxy
from tests.support.site import wait_for
from tests.unit.transport.conftest import World
from workers.transport import channel
from workers.transport.channel import Transport


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_silent_subscription_is_replaced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "HEALTH_CHECK_EVERY", 0.3)
    options = {"namespace": world.keys.namespace, "socket_timeout": 1.0, "health_check_interval": 0.3}
    heard: list[Any] = []
    events = Exchange(f"events.{world.keys.namespace}", type="fanout")
    with SilentProxy(world.port) as proxy, world.connection() as worker:
        flower = Connection(f"redis://127.0.0.1:{proxy.port}/0", transport=Transport, transport_options=options)
        queue = Queue(f"flower.{world.keys.namespace}", events, auto_delete=True)

        def published() -> bool:
            worker.Producer(serializer="json").publish({"n": len(heard)}, exchange=events, declare=[events])
            with suppress(TimeoutError):
                flower.drain_events(timeout=0.2)
            return bool(heard)

        with flower, Consumer(flower, [queue], on_message=heard.append, accept=["json"], no_ack=True):
            wait_for(published, what="an event")
            proxy.silence()
            heard.clear()
            wait_for(published, 10, what="an event over a new connection")
    for key in world.client.keys(f"_kombu.binding.events.{world.keys.namespace}*"):
        world.client.delete(key)
