"""Fixtures of all tests. `site` and a `simulator` with options are made by tests/support/fixtures.py."""

from collections.abc import Iterator

import pytest

from tests.support.fixtures import simulator_fixture
from tests.support.valkey import own_valkey

simulator = simulator_fixture()


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a real server. Each test has a namespace of its own on it."""
    with own_valkey() as server:
        yield f"redis://127.0.0.1:{server.port}/0"
