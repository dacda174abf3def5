"""A real Valkey for this package's tests, and the check that no key is left without a lifetime."""

from collections.abc import Iterator

import pytest
import redis

from tests.support.valkey import own_valkey
from tests.unit.limits import branches
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
    with own_valkey() as server:
        yield server.port


@pytest.fixture
def client(port: int) -> Iterator["redis.Redis"]:
    connection = redis.Redis(port=port)
    connection.flushall()
    yield connection
    assert connection.eval(WITHOUT_LIFETIME, 0) == []
    connection.close()


@pytest.fixture
def url(port: int, client: "redis.Redis") -> str:
    client.script_flush()
    return f"redis://127.0.0.1:{port}/0"


REACHED = pytest.StashKey[set[int]]()
MODULES = pytest.StashKey[set[str]]()


@pytest.fixture
def world(client: "redis.Redis", request: pytest.FixtureRequest) -> Iterator[World]:
    """A world whose scripts mark the branches that they take, for test_branches.py."""
    yield World(client, seed=1, scripts=branches.SCRIPTS)
    stash = request.config.stash
    stash.setdefault(REACHED, set()).update(branches.harvest(client))
    stash.setdefault(MODULES, set()).add(request.node.path.name)
    client.delete(branches.KEY)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run test_branches.py last."""
    items.sort(key=lambda item: item.path.name == "test_branches.py")
