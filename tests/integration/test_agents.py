"""Agents on real parts: jobs of many calls, whose waits hold no slot and whose replays pay nothing twice."""

from collections.abc import Iterator

import pytest

from tests.agents import line
from tests.simulator import Simulator
from tests.site import Site


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as made:
        yield made


@pytest.fixture(scope="module")
def site(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site"), simulator, more='agents = ["tests.agents"]') as made:
        made.start_worker()
        yield made


def test_an_agents_result_is_its_line(site: Site) -> None:
    batch = site.submit([line("chain", number, calls=3) for number in range(1, 6)])
    status = site.wait(batch)
    assert status["request_counts"] == {"total": 5, "completed": 5, "failed": 0}
    assert status["calls"] == 15
    lines, errors = site.results(batch)
    assert not errors
    for one in lines:
        assert one["response"]["status_code"] == 200
        assert len(one["response"]["body"]["texts"]) == 3
        assert one["overnight"]["calls"] == 3
