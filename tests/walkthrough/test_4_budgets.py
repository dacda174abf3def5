"""A budget is a limit in dollars that is never exceeded. `when_exhausted` says what happens at its end."""

from tests.simulator import Simulator
from tests.support.site import Site, jobs, wait_for

#: Tokens of an answer that takes nearly the whole budget of `patient`.
LONG = 20_000


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


def test_3_by_default_they_wait_and_status_says_for_what(site: Site, provider: Simulator) -> None:
    provider.configure(answer_tokens=LONG)
    batch = site.submit(jobs(2, text="patient", max_tokens=LONG), workflow="patient")
    waits_for = wait_for(lambda: site.status(batch)["waits_for"], every=1.0, what="a batch that waits")
    assert waits_for.startswith("the budget of patient is spent until ")
    assert waits_for.endswith(" of $0.0405")


def test_4_a_raised_budget_lets_them_go_on(site: Site, provider: Simulator) -> None:
    provider.configure(answer_tokens=LONG)
    batch = site.submit(jobs(2, text="patient", max_tokens=LONG), workflow="patient")  # the same file: the same batch
    site.file.write_text(site.file.read_text().replace("budget_usd = 0.0405", "budget_usd = 1.0"))
    site.workers[-1].stop()
    site.start_worker()  # workers read overnight.toml when they start
    site.run("cancel", batch)  # or wait: they ask again within five minutes
    assert site.wait(batch)["status"] == "cancelled"
    site.run("retry", batch)
    assert site.wait(batch)["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    provider.configure(answer_tokens=8)
