"""`overnight cancel` stops what has not begun. A call that is in flight finishes, since it is paid for."""

from tests.simulator import Simulator
from tests.support.site import Site, jobs, wait_for


def test_1_cancel_ends_waiting_jobs_and_keeps_every_answer(site: Site, provider: Simulator) -> None:
    provider.clear()
    provider.configure(latency=1.0)  # one call at a time: the batch would take 100 seconds
    batch = site.submit(jobs(100, model="slow", text="cancelled"), workflow="tickets")
    wait_for(provider.journal, what="a call")
    site.run("cancel", batch)
    status = site.wait(batch)
    provider.configure(latency=0.0)
    assert status["status"] == "cancelled"
    lines, errors = site.results(batch)
    assert len(lines) + len(errors) == 100, "each job has its line"
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert len(lines) == len(provider.journal()) < 100, "each call is in the output, and nothing else was called"
    assert "has already ended" in site.run("cancel", batch, status=2).stderr
