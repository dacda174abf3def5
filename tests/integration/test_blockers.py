"""The watchdog: whatever is wrong, a batch moves, or `overnight status`, Flower and the metrics say why not."""

import os
import signal
import time
from collections.abc import Callable

import pytest
from prometheus_client.registry import CollectorRegistry

from limits.client.connection import Server
from tasks.batches.batch import Batch
from tasks.batches.store import Store
from tasks.console.session import waits_for
from tasks.monitoring import blockers, snapshot
from tasks.monitoring.metrics import Exporter
from tests.simulator import Simulator
from tests.support.fixtures import simulator_fixture, site_fixture
from tests.support.site import Site, Worker, job, jobs, wait_for
from workers.config.settings import Settings, load

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

#: How soon a stopped batch must name its blocker, in seconds.
SOON = 30.0


simulator = simulator_fixture("function", latency=0.05)

site = site_fixture(scope="function")


class Watchdog:
    """What each view reports about a batch."""

    def __init__(self, site: Site, batch: str) -> None:
        self.site = site
        self.batch = batch
        self.settings: Settings = load(site.file)
        self.store = Store(site.keys, Server(site.client()))

    def record(self) -> Batch:
        found = self.store.batch(self.batch)
        assert found is not None
        return found

    def told(self) -> str:
        """What `overnight status` reports."""
        record = self.record()
        return record.trouble or waits_for(self.settings, self.store, record)

    def names(self, words: str) -> None:
        """Wait until each view names this blocker: at most `SOON` after the batch has moved for the last time."""
        moved, done = time.monotonic(), self.record().done
        while words not in (told := self.told()):
            if done != (now := self.record().done):
                moved, done = time.monotonic(), now
            assert time.monotonic() < moved + SOON, f"{words!r} is not named, but: {told!r}"
            time.sleep(0.2)

    def kind(self) -> str:
        """What the metric says."""
        registry = CollectorRegistry()
        registry.register(Exporter(self.store, self.settings))
        for family in registry.collect():
            for sample in family.samples:
                if sample.name == "overnight_held_up" and sample.labels["batch"] == self.batch:
                    return sample.labels["reason"]
        return ""

    def ends(self) -> Batch:
        wait_for(lambda: self.record().over, 60.0, what=f"its end, but: {self.told()!r}")
        found = self.record()
        assert (found.completed, found.failed, self.told()) == (found.total, 0, "")
        return found


def no_worker(site: Site, worker: Worker) -> Callable[[], object]:
    worker.stop()
    return site.start_worker


def silent_worker(site: Site, worker: Worker) -> Callable[[], object]:
    del site
    os.kill(worker.pid, signal.SIGSTOP)
    return lambda: os.kill(worker.pid, signal.SIGCONT)


def no_memory(site: Site, worker: Worker) -> Callable[[], object]:
    del worker
    site.client().config_set("maxmemory", "1mb")
    return lambda: site.client().config_set("maxmemory", "0")


def storage_refuses(site: Site, worker: Worker) -> Callable[[], object]:
    """A file has the folder's place."""
    del worker
    files = site.folder / ".overnight" / "files"
    away = files.rename(files.with_name("away"))
    files.touch()

    def over() -> None:
        files.unlink()
        away.rename(files)

    return over


def storage_is_elsewhere(site: Site, worker: Worker) -> Callable[[], object]:
    """The folder is moved away, as a disk that is no longer mounted."""
    del worker
    files = site.folder / ".overnight" / "files"
    away = files.rename(files.with_name("away"))
    return lambda: away.rename(files)


@pytest.mark.parametrize(
    ("fault", "words", "kind"),
    [
        (no_worker, "a worker: none is running", "no_worker"),
        (silent_worker, "a worker", "no_worker"),
        (no_memory, "refuses writes", "redis"),
        (storage_refuses, "jsonl", "files"),
        (storage_is_elsewhere, "its folder is not there", "files"),
    ],
)
def test_each_fault_is_named_and_afterwards_the_batch_goes_on(
    site: Site,
    simulator: Simulator,
    fault: Callable[[Site, Worker], Callable[[], object]],
    words: str,
    kind: str,
) -> None:
    worker = site.start_worker(concurrency=10)
    simulator.configure(latency=0.5)
    watchdog = Watchdog(site, site.submit(jobs(200)))
    wait_for(lambda: watchdog.record().done, what="its first job")
    over = fault(site, worker)
    watchdog.names(words)
    assert watchdog.kind() == kind
    over()
    simulator.configure(latency=0.02)
    watchdog.ends()


def test_a_worker_with_an_older_file_leaves_jobs_to_others(site: Site) -> None:
    site.start_worker()
    site.file.write_text(f"{site.file.read_text()}\n[providers.acme.models.large]\n")
    watchdog = Watchdog(site, site.submit([job(number, model="large") for number in range(20)]))
    watchdog.names('no model "large" is configured')
    assert watchdog.kind() == "configuration"
    site.start_worker()
    assert watchdog.ends().completed == 20


def test_a_clock_that_was_ahead_is_named(site: Site) -> None:
    watchdog = Watchdog(site, site.submit(jobs(1)))
    ahead = int((time.time() + 600) * 1_000_000)
    watchdog.store.client.set(site.keys.clock, ahead, ex=60)
    now = snapshot.read(watchdog.store, watchdog.settings)
    assert 590 < now.lead <= 600
    assert not blockers.of_batch(now, watchdog.record(), 1).stalled, "the limits go on all the same"
