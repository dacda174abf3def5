"""A worker that is stopped with calls in flight: nothing lost, nothing left open, nothing repeated that could end.

Each worker has a queue of its own. When a worker has gone, another one, the heir, consumes its queue.
"""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult

from limits.client.connection import Server
from limits.snapshot import ledger
from tests.simulator import Simulator
from tests.support.events import Events
from tests.support.site import Site, Worker, jobs, wait_for
from tests.support.toml import PRICES
from workers.transport.envelope import JOB

pytestmark = pytest.mark.long


#: Scenario -> its worker's options.
WORKERS: dict[str, tuple[str, ...]] = {
    "heir": (),
    "warm": (),
    "short": (),
    "cold": (),
    "soft": ("-E", "--", "worker.soft_shutdown_timeout=10"),
}


class Scene:
    """A site with a worker for each scenario, all started at once."""

    def __init__(self, folder: Path) -> None:
        self.simulator = Simulator()
        self.simulator.__enter__()
        self.site = Site(folder, self.simulator, model=PRICES, more="stop_grace_period = 20")
        hasty = folder / "hasty.toml"
        hasty.write_text(self.site.file.read_text().replace("stop_grace_period = 20", "stop_grace_period = 0.5"))
        self.workers: dict[str, Worker] = {}
        for name, options in WORKERS.items():
            environment = {"OVERNIGHT_CONFIG": str(hasty)} if name == "short" else {}
            self.workers[name] = self.site.start_worker(
                *("-Q", f"workflow.{name}", *options), concurrency=15, ready=name == "heir", environment=environment
            )
        for worker in self.workers.values():
            wait_for(worker.ready, 60, what="worker")
        url = self.site.redis_url()
        self.client = Celery("producer", broker=url, backend=url, set_as_current=False)

    def close(self) -> None:
        self.client.close()
        self.site.__exit__(None, None, None)
        self.simulator.__exit__(None, None, None)

    def send(self, name: str, count: int, latency: float) -> list[AsyncResult]:
        """Jobs for this scenario's worker, at a provider that takes so long; the journal begins with them."""
        self.simulator.configure(latency=latency)
        self.simulator.clear()
        queue = f"workflow.{name}"
        return [self.client.send_task(JOB, kwargs={"job": line}, queue=queue) for line in jobs(count)]

    def in_flight(self, count: int) -> None:
        wait_for(lambda: self.simulator.stats()["in_flight"] == count, every=0.01, what=f"{count} in flight")

    def end(self, name: str, number: signal.Signals, within: float) -> Worker:
        worker = self.workers[name]
        started = time.monotonic()
        worker.process.send_signal(number)
        worker.process.wait(30)
        assert time.monotonic() - started < within
        return worker

    def inherit(self, name: str) -> None:
        heir = f"w1-{os.getpid()}@{socket.gethostname()}"
        self.client.control.add_consumer(f"workflow.{name}", destination=[heir])

    def spent(self) -> int:
        """What the ledger says was spent or presumed, in n$."""
        day = int(time.time() // 86_400)
        rows = ledger(Server(self.site.client()), self.site.keys, [day - 1, day])
        kinds = ("cost", "failed_cost", "presumed_cost")
        return sum(columns.get(kind, 0) for columns in rows.values() for kind in kinds)

    def billed(self) -> int:
        return sum(int(entry["cost_nusd"]) for entry in self.simulator.journal())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("site"))
    try:
        yield made
    finally:
        made.close()


def answers(results: list[AsyncResult]) -> list[dict[str, Any]]:
    """The result lines; each is an answer."""
    lines = [result.get(timeout=40) for result in results]
    assert all(line["error"] is None for line in lines)
    return lines


def test_a_warm_shutdown_finishes_what_it_has_begun(scene: Scene) -> None:
    results = scene.send("warm", 20, latency=1.0)
    scene.in_flight(15)
    worker = scene.end("warm", signal.SIGTERM, 10)
    assert "put back" not in worker.said()
    scene.inherit("warm")
    assert len(answers(results)) == 20
    assert len(scene.simulator.journal()) == 20, "a job was called twice"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param("short", signal.SIGTERM, id="the grace period is over"),
        pytest.param("cold", signal.SIGQUIT, id="cold"),
    ],
)
def test_calls_that_end_too_late_are_presumed_and_restored(scene: Scene, name: str, number: signal.Signals) -> None:
    before = scene.spent()
    results = scene.send(name, 20, latency=30.0)
    scene.in_flight(15)
    scene.end(name, number, 6.0)
    assert scene.spent() - before >= scene.billed() > 0
    scene.simulator.configure(latency=0.0)
    scene.inherit(name)
    assert len(answers(results)) == 20
    assert len(scene.simulator.journal()) == 35
    assert scene.site.client().zcard(scene.site.keys.leases) == 0, "a reservation was left open"


def test_a_soft_shutdown_waits_and_announces_only_facts(scene: Scene) -> None:
    with Events(scene.site.redis_url()) as events:
        results = scene.send("soft", 15, latency=1.0)
        scene.in_flight(15)
        scene.end("soft", signal.SIGQUIT, 8.0)  # not the 10 s that it could have waited
        assert len(answers(results)) == 15
        events.wait("task-succeeded", 15)
        assert events.count("task-cancelled") == events.count("task-revoked") == 0
    assert len(scene.simulator.journal()) == 15
