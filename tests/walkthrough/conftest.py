"""One provider, one site and one worker for the whole walk."""

from collections.abc import Iterator

import pytest
import redis

from limits.client.connection import Server
from limits.keys import Keys
from tests.simulator import Simulator
from tests.support.site import Site


@pytest.fixture(scope="package")
def provider() -> Iterator[Simulator]:
    """A provider of LLM calls: an HTTP server on this machine that counts, refuses and bills as real ones do."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, provider: Simulator) -> Iterator[Site]:
    """A folder with an overnight.toml that names the provider, and a worker that runs."""
    with Site(tmp_path_factory.mktemp("walkthrough"), provider) as made:
        made.start_worker()
        yield made


@pytest.fixture
def server(site: Site) -> Iterator[Server]:
    """The Redis server that holds all that the workers share."""
    with redis.Redis.from_url(site.redis_url()) as client:
        yield Server(client)


@pytest.fixture
def keys(request: pytest.FixtureRequest) -> Keys:
    """A namespace of its own for each test."""
    return Keys(request.node.name)
