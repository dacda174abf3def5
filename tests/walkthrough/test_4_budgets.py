"""A budget is a limit in dollars that is never exceeded. `when_exhausted` says what happens at its end."""

from tests.simulator import Simulator
from tests.support.site import Site, jobs


def test_1_jobs_go_to_a_cheaper_model_when_money_is_short(site: Site) -> None:
    batch = site.submit(jobs(3), workflow="summaries")
    status = site.wait(batch)
    lines, errors = site.results(batch)
    assert errors == []
    assert [line["overnight"]["model"] for line in lines] == ["tiny"] * 3
    assert 0 < status["cost_usd"] < 0.0001


def test_2_jobs_can_fail_instead(site: Site, provider: Simulator) -> None:
    before = len(provider.journal())
    batch = site.submit(jobs(2), workflow="strict")
    site.wait(batch)
    _, (failed,) = site.results(batch)
    assert failed["error"]["code"] == "budget_exceeded"
    assert len(provider.journal()) == before + 1, "the second was not sent"
