"""What a batch pays for when it is stopped, and what it says it has paid: real workers, and the simulator's bill."""

import time

import pytest

from limits.budget import NANO
from limits.client.connection import Server
from tasks.batches.batch import Batch, from_hash
from tasks.batches.store import Store
from tasks.monitoring import costs
from tests.simulator import Simulator
from tests.support.fixtures import site_fixture
from tests.support.site import Site, jobs, wait_for
from tests.support.toml import PRICES

site = site_fixture(
    model=f"{PRICES}concurrency = 5",
    more="visibility_timeout = 10\n",
    tables=f"[providers.acme.models.other]\n{PRICES}[workflows.nightly]\nmax_attempts = 9\n",
    workers=1,
    concurrency=40,
)


@pytest.fixture(autouse=True)
def _clear(simulator: Simulator) -> None:
    simulator.configure(failures=[], latency=0.05)
    simulator.clear()


def record(site: Site, batch: str) -> Batch:
    found = from_hash(site.client().hgetall(site.keys.batch(batch)))
    assert found is not None
    return found


def cancelled(site: Site, batch: str) -> Batch:
    """Cancel a batch, and wait for its end."""
    store(site).stop(record(site, batch), "cancelled")
    return ended(site, batch)


def ended(site: Site, batch: str) -> Batch:
    wait_for(lambda: record(site, batch).over, 60.0, what="the batch's end")
    return record(site, batch)


def store(site: Site) -> Store:
    return Store(site.keys, Server(site.client()))


def bill(simulator: Simulator) -> int:
    return sum(call["cost_nusd"] for call in simulator.journal())


def test_no_call_begins_after_a_cancel(site: Site, simulator: Simulator) -> None:
    simulator.configure(latency=2.0)
    batch = site.submit(jobs(60))
    wait_for(lambda: simulator.stats()["in_flight"] == 5, what="calls")
    found = cancelled(site, batch)
    assert (found.completed, found.failed) == (5, 55)
    assert len(simulator.journal()) == 5, "those that waited for a call's end went out when it came"
    assert found.cost == bill(simulator)


def test_a_cancelled_batch_counts_the_cost_of_failed_attempts(site: Site, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "half"}])
    batch = site.submit(jobs(8))
    wait_for(lambda: record(site, batch).calls >= 5, what="failed attempts")
    found = cancelled(site, batch)
    assert (found.failed, found.calls) == (8, len(simulator.journal()))
    assert found.cost >= bill(simulator) > 0, "an answer that broke off is presumed, at its ceiling"
    _, errors = site.results(batch)
    assert sum(line["overnight"]["cost_usd"] for line in errors) == pytest.approx(found.cost / NANO)
    tried = [line["error"]["message"] for line in errors if line["overnight"]["cost_usd"]]
    assert tried
    assert all("its failed attempts cost $" in words for words in tried)
    today = int(time.time() // 86_400)
    rows = costs.entries(store(site).server, site.keys, [today - 1, today])
    assert sum(row.spent.total for row in rows if row.batch == batch) == found.cost
    spent = costs.of_batch(store(site).server, site.keys, found)
    assert costs.presumed(spent, found) == 0


@pytest.mark.long
def test_a_killed_workers_presumed_cost_is_shown_separately(site: Site, simulator: Simulator) -> None:
    simulator.configure(latency=60.0)
    batch = site.submit(jobs(5, model="other"))
    wait_for(lambda: simulator.stats()["in_flight"] == 5, what="calls")
    site.workers[0].kill()
    simulator.configure(latency=0.05)
    site.start_worker(concurrency=40)
    status = site.wait(batch, 60)
    assert status["request_counts"]["completed"] == 5
    answered = [call for call in simulator.journal() if call["status"] == 200]
    assert status["cost_usd"] == pytest.approx(sum(call["cost_nusd"] for call in answered[-5:]) / 1e9)
    assert status["presumed_usd"] > 0
    assert "for calls whose worker was killed" in site.run("status", batch).stderr
