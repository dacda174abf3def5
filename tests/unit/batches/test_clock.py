"""The server's clock was ten minutes ahead: ticks and leases from that time must not delay anything."""

import time

from tasks.jobs import job as jobs
from tasks.jobs.job import Job
from tasks.jobs.store import begin
from tests.unit.batches.conftest import World

TICK = "collect:batch_1"


def test_a_clock_that_was_ahead_delays_no_tick(world: World) -> None:
    """Its ticks are due now, and a worker that is gone is not on duty any more."""
    world.batch(1)
    client, keys = world.store.client, world.store.keys
    far = int((time.time() + 600) * 1e6)
    client.zadd(keys.ticks, {TICK: far, "feed:batch_1": far})
    client.set(keys.ticks_duty, "gone", px=600_000)
    assert world.store.ticks.take(5.0, 10, "me", 1.0) == (True, [TICK, "feed:batch_1"])
    assert world.store.ticks.take(5.0, 10, "me", 1.0) == (True, [])
    client.zadd(keys.ticks, {TICK: int((time.time() + 50) * 1e6)})
    assert world.store.ticks.take(5.0, 10, "me", 1.0) == (True, [])


def test_a_dead_workers_lease_ends(world: World) -> None:
    batch = world.batch(1)
    store = world.store
    assert world.begin(batch, 1, owner="dead") == "run"
    store.client.zadd(store.keys.job_leases(batch.id), {"1": int((time.time() + 600) * 1e6)})
    found = store.server.run(begin(store.keys, world.job(batch, 1), "heir", 60.0))
    assert (found.verdict, round(found.wait)) == ("held", 60)
    due = store.client.zscore(store.keys.job_leases(batch.id), "1")
    assert abs(due / 1e6 - time.time() - 60) < 5
    assert world.begin(batch, 1, owner="dead") == "run", "its owner goes on"


def test_a_dead_workers_lease_of_a_single_job_ends(world: World) -> None:
    store = world.store
    single = Job(jobs.Line("job-1", "", {}), "task-1", "nightly")
    assert store.server.run(begin(store.keys, single, "dead", 60.0)).verdict == "run"
    store.client.hset(store.keys.job(single.id), "until", int((time.time() + 600) * 1e6))
    assert round(store.server.run(begin(store.keys, single, "heir", 0.2)).wait, 1) == 0.2
    time.sleep(0.25)
    assert store.server.run(begin(store.keys, single, "heir", 0.2)).verdict == "run"
