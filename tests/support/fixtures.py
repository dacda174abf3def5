"""The fixtures that most files of tests use, with the options that a file needs.

    simulator = simulator_fixture(keys=[KEY])
    site = site_fixture(more="visibility_timeout = 5.0", workers=2, concurrency=20)
    desk = desk_fixture(lambda simulator: provider(simulator.base_url))

A simulator and a site serve all tests of the file, or one with scope="function"; a desk serves one test.
tests/conftest.py has a simulator without options.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Simulator
from tests.support.delivery import Desk
from tests.support.site import KEY, Site


def simulator_fixture(scope: Any = "module", **options: Any) -> Any:
    """A provider with these options (tests/simulator/config.py)."""

    @pytest.fixture(name="simulator", scope=scope)
    def simulator() -> Iterator[Simulator]:
        with Simulator(options) as made:
            yield made

    return simulator


def site_fixture(
    *worker_options: str, scope: Any = "module", workers: int = 0, concurrency: int = 100, **options: Any
) -> Any:
    """A site at the file's simulator with this configuration (see `Site`), with `workers` running."""

    @pytest.fixture(name="site", scope=scope)
    def site(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Iterator[Site]:
        with Site(tmp_path_factory.mktemp("site"), simulator, **options) as made:
            made.start_workers(workers, *worker_options, concurrency=concurrency)
            yield made

    return site


def desk_fixture(config: Callable[[Simulator], str], **settings: Any) -> Any:
    """A desk with this configuration, at the file's simulator, which begins as new with these settings."""

    @pytest.fixture(name="desk")
    def desk(tmp_path: Path, valkey: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
        monkeypatch.setenv("ACME_KEY", KEY)
        simulator.configure(**{"failures": [], "latency": 0.0, **settings})
        simulator.clear()
        with Desk(tmp_path, valkey, config(simulator)) as made:
            yield made

    return desk
