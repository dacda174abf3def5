"""The transport over TLS, with a password and a certificate that is checked.

The embedded Valkey has no TLS built in, so a proxy ends it in front of one, as many services do.
"""

import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue
from kombu.exceptions import OperationalError

from tests.support.certificates import write_certificate
from tests.support.site import wait_for
from tests.support.tls_proxy import behind_tls
from tests.unit.transport.conftest import World
from workers.transport.channel import Transport
from workers.transport.queues import Depth, depths

PASSWORD = "a-password"


@pytest.fixture
def proxy(tmp_path: Path, world: World) -> Iterator[tuple[int, str]]:
    """A server that asks for a password, behind TLS: its port, and who signed its certificate."""
    write_certificate(tmp_path)
    world.client.config_set("requirepass", PASSWORD)
    try:
        with behind_tls(tmp_path, world.port) as port:
            yield port, str(tmp_path / "authority.pem")
    finally:
        world.client.config_set("requirepass", "")


def connection(world: World, port: int, certificate: str, password: str = PASSWORD) -> Connection:
    return Connection(
        f"rediss://:{password}@localhost:{port}/0",
        transport=Transport,
        ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": certificate},
        transport_options={"namespace": world.keys.namespace},
    )


def depth(world: World) -> Depth:
    return depths(world.client, world.keys, [world.queue], world.broker.prefix)[world.queue]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_message_is_delivered_over_tls(proxy: tuple[int, str], world: World) -> None:
    found: list[Any] = []
    with connection(world, *proxy) as opened:
        opened.Producer(serializer="json").publish("hello", exchange="", routing_key=world.queue)
        Consumer(opened.default_channel, [Queue(world.queue)], on_message=found.append, accept=["json"]).consume()
        while not found:
            with suppress(TimeoutError):
                opened.drain_events(timeout=1.0)
        assert found[0].payload == "hello"
        assert depth(world) == Depth(0, 1, 0)
        found[0].ack()
        wait_for(
            lambda: depths(world.client, world.keys, [world.queue], world.broker.prefix)[world.queue] == Depth(0, 0, 0),
            5.0,
        )
    world.leave()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_wrong_password_is_refused(proxy: tuple[int, str], world: World) -> None:
    with connection(world, *proxy, password="wrong") as opened, pytest.raises(OperationalError):
        opened.ensure_connection(max_retries=1, interval_start=0)
