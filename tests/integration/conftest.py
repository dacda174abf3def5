"""A server of its own for each test run."""

from collections.abc import Iterator

import pytest

from tests.support.valkey import own_valkey


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a real server; tests keep apart by their namespaces."""
    with own_valkey() as server:
        yield f"redis://127.0.0.1:{server.port}/0"
