"""`overnight cancel` stops what has not begun, and `pause` holds it back. A call in flight finishes: it is paid."""

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


def test_2_a_paused_batch_starts_nothing_until_it_is_resumed(site: Site, provider: Simulator) -> None:
    provider.clear()
    provider.configure(latency=0.2)
    batch = site.submit(jobs(20, model="slow", text="paused"), workflow="tickets")
    wait_for(provider.journal, what="a call")
    assert "is paused within a second" in site.run("pause", batch).stderr
    wait_for(lambda: site.status(batch)["in_flight"] == 0, what="calls in flight finish")
    before = site.status(batch)
    assert before["waits_for"].startswith("you: its batch is paused")
    assert before["request_counts"]["completed"] < 20
    so_far = site.folder / "so-far.jsonl"

    def written() -> int:
        assert "still runs" in site.run("results", batch, "--partial", "-o", str(so_far)).stderr
        return len(so_far.read_text().splitlines())

    wait_for(lambda: written() == before["request_counts"]["completed"], what="each answer in the file")
    site.run("resume", batch)
    assert site.wait(batch)["request_counts"]["completed"] == 20
    provider.configure(latency=0.0)
    assert len(provider.journal()) == 20, "nothing was called twice"
