"""A worker that is stopped with calls in flight: nothing lost, nothing left open, nothing repeated that could end."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from limits.connection import Server
from limits.overview import ledger
from tasks.store import Store
from tests.events import Events
from tests.simulator import Simulator
from tests.site import Site, Worker, jobs, wait_for


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as made:
        yield made


def site_of(folder: Path, simulator: Simulator, grace: float) -> Site:
    prices = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"
    return Site(folder, simulator, model=prices, more=f"stop_grace_period = {grace}")


def in_flight(simulator: Simulator) -> int:
    return int(simulator.stats()["in_flight"])


def end(worker: Worker, number: signal.Signals, seconds: float) -> None:
    worker.process.send_signal(number)
    worker.process.wait(seconds)


def spent(site: Site) -> int:
    """What the ledger says was spent or presumed, in n$."""
    day = int(time.time() // 86_400)
    rows = Server(site.client()).run(ledger(site.keys, [day - 1, day]))
    kinds = ("cost", "failed_cost", "presumed_cost")
    return sum(columns.get(kind, 0) for columns in rows.values() for kind in kinds)


def billed(simulator: Simulator) -> int:
    return sum(int(entry["cost_nusd"]) for entry in simulator.journal())


def complete(site: Site, batch: str, count: int) -> None:
    """Wait until every job of the batch has succeeded."""
    store = Store(site.keys, Server(site.client()))
    wait_for(lambda: (found := store.batch(batch)) is not None and found.status == "completed", what="completed")
    found = store.batch(batch)
    assert found is not None
    assert (found.completed, found.failed) == (count, 0)


def test_a_warm_shutdown_finishes_what_it_has_begun(tmp_path: Path, simulator: Simulator) -> None:
    simulator.clear()
    simulator.configure(latency=1.0)
    with site_of(tmp_path, simulator, grace=20) as site:
        first, second = site.start_workers(2, concurrency=10)
        batch = site.submit(jobs(40))
        wait_for(lambda: in_flight(simulator) == 20, every=0.01)
        end(first, signal.SIGTERM, 10)
        assert "put back" not in first.said()
        complete(site, batch, 40)
        assert len(simulator.journal()) == 40, "a job was called twice"
        assert second.process.poll() is None


@pytest.mark.parametrize(
    ("number", "grace", "options", "within"),
    [
        pytest.param(signal.SIGTERM, 0.5, (), 4.0, id="the grace period is over"),
        pytest.param(signal.SIGQUIT, 25.0, (), 4.0, id="cold"),
    ],
)
def test_calls_that_cannot_end_in_time_are_paid_for_and_put_back(
    tmp_path: Path, simulator: Simulator, number: signal.Signals, grace: float, options: tuple[str, ...], within: float
) -> None:
    simulator.clear()
    simulator.configure(latency=30.0)
    with site_of(tmp_path, simulator, grace) as site:
        worker = site.start_worker(*options, concurrency=15)
        batch = site.submit(jobs(20))
        wait_for(lambda: in_flight(simulator) == 15, every=0.01)
        started = time.monotonic()
        end(worker, number, within)
        assert time.monotonic() - started < within
        with_server = site.start_worker(concurrency=30)  # keeps the embedded server
        assert spent(site) >= billed(simulator) > 0
        simulator.configure(latency=0.0)
        complete(site, batch, 20)
        assert len(simulator.journal()) == 35
        assert site.client().zcard(site.keys.leases) == 0, "a reservation was left open"
        assert with_server.process.poll() is None


def test_a_soft_shutdown_waits_and_announces_nothing_that_has_not_happened(
    tmp_path: Path, simulator: Simulator
) -> None:
    simulator.clear()
    simulator.configure(latency=1.0)
    with site_of(tmp_path, simulator, grace=20) as site:
        worker = site.start_worker("-E", "--", "worker.soft_shutdown_timeout=10", concurrency=10)
        site.start_worker("-E", concurrency=10)
        with Events(site.redis_url()) as events:
            batch = site.submit(jobs(30))
            wait_for(lambda: in_flight(simulator) == 20, every=0.01)
            started = time.monotonic()
            end(worker, signal.SIGQUIT, 9)
            assert time.monotonic() - started < 5, "it waited on although nothing ran any more"
            complete(site, batch, 30)
            events.wait("task-succeeded", 30)
            assert events.count("task-cancelled") == events.count("task-revoked") == 0
        assert len(simulator.journal()) == 30
