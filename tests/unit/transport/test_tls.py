"""The transport over TLS, with a password and a certificate that is checked.

The embedded Valkey has no TLS built in, so a proxy ends it in front of one, as many services do.
"""

import asyncio
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Consumer, Queue
from kombu.exceptions import OperationalError

from tests.site import wait_for
from tests.unit.transport.conftest import World
from workers.queues import Depth, depths
from workers.transport import Transport

PASSWORD = "a-password"


class Proxy(threading.Thread):
    """Takes TLS on one port and passes what comes to another."""

    def __init__(self, certificate: str, key: str, target: int) -> None:
        super().__init__(daemon=True)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate, key)
        self.target = target
        self.port = 0
        self.ready = threading.Event()
        self.loop = asyncio.new_event_loop()

    def run(self) -> None:
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        self.stopping = asyncio.Event()
        self.ready.set()
        await self.stopping.wait()
        server.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.target)
        with suppress(OSError):
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.join(5)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
def proxy(tmp_path: Path, world: World) -> Iterator[tuple[int, str]]:
    """A server that asks for a password, behind TLS: its port, and the certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    running = Proxy(certificate, key, world.port)
    running.start()
    running.ready.wait(10)
    world.client.config_set("requirepass", PASSWORD)
    try:
        yield running.port, certificate
    finally:
        world.client.config_set("requirepass", "")
        running.stop()


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
def test_a_message_goes_its_way(proxy: tuple[int, str], world: World) -> None:
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
