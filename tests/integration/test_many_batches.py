"""Batches with the real window, beside real workers: long lines, very long lines, many at once, thousands that wait."""

import time
from pathlib import Path

import pytest

from limits.client.connection import Server
from tasks.batches.store import Store
from tasks.batches.submit import submit
from tests.simulator import Simulator
from tests.support.fixtures import simulator_fixture, site_fixture
from tests.support.site import Site, job, jobs, wait_for
from workers.config.settings import load

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

#: What the queues and what is in flight may take up in Redis: the window twice, in base64, and its own needs.
REDIS = 2 * (48 << 20) * 4 // 3 + (24 << 20)


simulator = simulator_fixture("function", latency=0.05)

site = site_fixture(scope="function", tables="[providers.acme.models.other]\n")


def _store(site: Site) -> Store:
    settings = load(site.file)
    return Store(site.keys, Server(site.client()), settings.storage)


def _ends(site: Site, ids: list[str], seconds: float) -> int:
    """Wait until all batches have succeeded; returns the most memory that Redis has used until then."""
    store, client, most = _store(site), site.client(), 0

    def over() -> bool:
        nonlocal most
        most = max(most, client.info("memory")["used_memory"])
        return all(batch.over for batch in store.records(ids))

    wait_for(over, seconds, every=0.2, what="the ends of all batches")
    assert all(batch.completed == batch.total for batch in store.records(ids))
    return most


@pytest.mark.parametrize(("count", "size"), [(400, 160_000), (50, 10_000_000)])
def test_redis_stays_small_during_a_batch_of_long_lines(
    site: Site, simulator: Simulator, count: int, size: int
) -> None:
    site.start_worker()
    batch = site.submit([job(number, text=f"{number} " + "x" * size) for number in range(count)])
    assert _ends(site, [batch], 200.0) <= REDIS
    assert simulator.stats()["requests"] == count


def test_two_hundred_batches_at_once_are_done(site: Site, simulator: Simulator) -> None:
    settings, store = load(site.file), _store(site)
    ids = []
    for number in range(200):
        source = site.input([job(line, text=f"{number} {line} " + "x" * 3_000) for line in range(10)])
        ids.append(submit(str(source), settings, store, workflow=f"of-{number % 20}")[0].id)
    site.start_workers(2)
    began = time.monotonic()
    assert _ends(site, ids, 120.0) <= REDIS
    assert simulator.stats()["requests"] == 2_000
    print(f"200 batches of 10 jobs: {time.monotonic() - began:.1f} s")  # noqa: T201 - a figure of the test


def test_two_thousand_waiting_batches_do_not_hold_up_another(tmp_path: Path, simulator: Simulator) -> None:
    toml = "[providers.acme.models.other]\n"
    with Site(tmp_path, simulator, model="rpm = 1\nburst = 1.0", tables=toml) as site:
        settings, store = load(site.file), _store(site)
        source = str(site.input(jobs(2)))
        for _ in range(2_000):
            submit(source, settings, store, workflow="waiting", new=True)
        site.start_worker()
        wait_for(lambda: all(batch.fed == 2 for batch in store.live()), 120.0, every=1.0, what="all to be handed out")
        time.sleep(2.0)  # the worker has handed out all it can: from here on it only looks
        began = time.monotonic()
        new = submit(str(site.input(jobs(5, model="other"))), settings, store, workflow="other")[0]
        wait_for(lambda: store.records([new.id])[0].completed, 20.0, every=0.02, what="the first of its jobs")
        started = time.monotonic() - began
        wait_for(lambda: store.records([new.id])[0].over, 20.0, every=0.02, what="its end")
        done = time.monotonic() - began
        print(f"started after {started:.2f} s, done after {done:.2f} s")  # noqa: T201 - as above
        assert started < 2.0
        assert done < 4.0
