"""`overnight set` and SIGHUP: running workers follow within seconds, and a wrong file changes nothing."""

import json
import signal
import time
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.site import Site, jobs, wait_for
from tests.support.toml import PRICES


@pytest.mark.long
@pytest.mark.timeout(240)
def test_three_workers_follow_a_changed_limit_within_five_seconds(tmp_path: Path, simulator: Simulator) -> None:
    simulator.clear()
    with Site(tmp_path, simulator, model="rpm = 60\nburst = 1.0") as site:
        workers = [site.start_worker(concurrency=20) for _ in range(3)]
        batch = site.submit(jobs(300))
        wait_for(lambda: simulator.stats()["requests"] > 0)
        time.sleep(3.0)  # the length of the look
        assert simulator.stats()["requests"] < 20, "one a second"
        assert "rpm = 6000 since" in site.run("set", "providers.acme.models.small.rpm=6000").stderr
        wait_for(lambda: simulator.stats()["requests"] > 100, 8.0, what="a hundred a second, five seconds later")
        shown = json.loads(site.run("limits", "--json").stdout)
        [changed] = shown["changed"]
        assert (changed["setting"], changed["value"], changed["file"]) == ("providers.acme.models.small.rpm", 6000, 60)
        assert site.wait(batch)["request_counts"]["completed"] == 300
        assert len(simulator.journal()) == 300, "nothing was called twice"

        # The file says something else: the change is over, and every worker reads the file.
        site.file.write_text(site.file.read_text().replace("rpm = 60\n", "rpm = 1200\n"))
        for worker in workers:
            worker.process.send_signal(signal.SIGHUP)
        for worker in workers:
            wait_for(lambda worker=worker: "overnight.toml was read again" in worker.said(), 5.0, what="a changed file")
        assert json.loads(site.run("limits", "--json").stdout)["changed"] == []
        site.file.write_text(site.file.read_text().replace("rpm = 1200\n", "rmp = 1\n"))
        workers[0].process.send_signal(signal.SIGHUP)
        wait_for(lambda: "rmp: unknown key" in workers[0].said(), 5.0, what="the file's error")
        assert "the old one stays" in workers[0].said()
        site.file.write_text(site.file.read_text().replace("rmp = 1\n", "rpm = 1200\n"))
        again = site.submit(jobs(30, text="again"))
        assert site.wait(again)["request_counts"]["completed"] == 30


@pytest.mark.long
@pytest.mark.timeout(120)
def test_three_workers_follow_a_lowered_budget_within_five_seconds(tmp_path: Path, simulator: Simulator) -> None:
    simulator.clear()
    tables = "[workflows.nightly]\nbudget_usd = 1\n"
    with Site(tmp_path, simulator, model=f"{PRICES}rpm = 1200\nburst = 1.0", tables=tables) as site:
        for _ in range(3):
            site.start_worker()
        batch = site.submit(jobs(1_000))
        wait_for(lambda: simulator.stats()["requests"] > 20)
        site.run("set", "workflows.nightly.budget_usd=0.001")
        time.sleep(5.0)  # the promise
        before = simulator.stats()["requests"]
        time.sleep(3.0)  # the length of the look
        assert simulator.stats()["requests"] == before < 1_000
        assert site.status(batch)["waits_for"].startswith("the budget of nightly is spent")
        site.run("cancel", batch)
        site.wait(batch)


def test_what_cannot_be_set_is_refused(tmp_path: Path, simulator: Simulator) -> None:
    with Site(tmp_path, simulator, model="rpm = 60") as site:
        assert "cannot be changed while workers run" in site.run("set", "redis_url='x'", status=2).stderr
        assert "no table [workflows.other]" in site.run("set", "workflows.other.weight=2", status=2).stderr
        assert "rpm" in site.run("set", "providers.acme.models.small.rpm=-1", status=2).stderr
        assert "was not changed" in site.run("set", "--unset", "budget_usd", status=2).stderr
        site.run("set", "providers.acme.models.small.rpm=600")
        assert "rpm = 600 since" in site.run("limits").stderr
        site.run("set", "--unset", "providers.acme.models.small.rpm")
        assert "rpm = 600 since" not in site.run("limits").stderr
