"""The whole way of a job, on real parts: commands, server, workers and provider are processes of their own."""

from collections.abc import Iterator

import pytest

from tests.simulator import Simulator
from tests.site import Site, job, jobs


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Simulator() as simulator, Site(tmp_path_factory.mktemp("site"), simulator) as made:
        made.start_worker()
        yield made


def test_two_workflows_are_found_without_a_restart(site: Site) -> None:
    first = site.submit(jobs(30), workflow="nightly-a")
    second = site.submit([job(number, text=f"b {number}") for number in range(20)], workflow="nightly-b")
    for batch, count in ((first, 30), (second, 20)):
        status = site.wait(batch)
        assert status["status"] == "completed"
        assert status["request_counts"] == {"total": count, "completed": count, "failed": 0}
        lines, errors = site.results(batch)
        assert len({line["custom_id"] for line in lines}) == len(lines) == count
        assert errors == []
