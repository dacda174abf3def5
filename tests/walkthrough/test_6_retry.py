"""Run again what is missing of a batch. What is done stays done."""

from tests.simulator import Simulator
from tests.support.site import Site, jobs


def test_1_retry_runs_what_is_missing_and_pays_for_nothing_twice(site: Site, provider: Simulator) -> None:
    provider.clear()
    provider.configure(failures=[{"mode": "422", "times": 1}])
    batch = site.submit(jobs(5, text="again"), workflow="tickets")
    assert site.wait(batch)["request_counts"] == {"total": 5, "completed": 4, "failed": 1}
    provider.configure(failures=[])
    site.run("retry", batch)
    assert site.wait(batch)["request_counts"] == {"total": 5, "completed": 5, "failed": 0}
    lines, errors = site.results(batch)
    assert (len(lines), errors) == (5, [])
    assert len(provider.journal()) == 6, "five answers and one refusal"
