"""Fixtures of all tests. `site` and a `simulator` with options are made by tests/support/fixtures.py."""

import os
from collections.abc import Generator, Iterator

import pytest

from tests.support.fixtures import simulator_fixture
from tests.support.valkey import own_valkey

simulator = simulator_fixture()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With NO_SKIPS=1, as CI should set it, a skipped test fails: no missing program is taken for a pass."""
    report = yield
    if report.skipped and os.environ.get("NO_SKIPS") == "1":
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The URL of a real server. Each test has a namespace of its own on it."""
    with own_valkey() as server:
        yield f"redis://127.0.0.1:{server.port}/0"
