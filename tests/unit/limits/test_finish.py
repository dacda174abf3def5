"""A job's end settles its reservation in the same step: the fragments of limits/ inside a script of tasks/."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from limits.admission import admit
from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.circuit import CircuitSettings
from limits.client.async_connection import AsyncServer
from limits.client.scripts import Call
from limits.encoding import settlement_json
from limits.reservation import Settlement, Throttle
from limits.snapshot import Snapshot, ledger, snapshot
from tasks.batches.batch import Batch
from tasks.batches.store import Store
from tasks.jobs.job import Job, Line
from tasks.jobs.proof import proof
from tasks.jobs.store import Finished, Outcome, finish
from tests.unit.limits.world import World

QUOTA = Quota(rpm=600, tpm=60_000, headroom=1.0, burst=10.0)
BUDGET = BudgetWindow("w", 1_000, "total")
LINE = Line("one", "/v1/chat/completions", {"model": "m", "messages": []})


@pytest.fixture
def batch(world: World) -> Iterator[str]:
    """A batch of two lines, with a reservation "r" for a call of one."""
    now = time.time()
    record = Batch("b1", "w", "in.jsonl", "in_progress", 2, 100, "file:///nowhere", now, deadline=now + 600, began=now)
    store = Store(world.keys, world.server)
    store.create(record)
    asking = world.asking("r", QUOTA, costs={"rpm": 1, "tpm": 8_000}, amount=100, budgets=(BUDGET,), row="row")
    world.server.run(admit(world.keys, asking))
    yield record.id
    # Made here without a lifetime, as a batch that is never ended has none for these.
    world.client.delete(world.keys.batches, world.keys.queues, world.keys.ticks)


def line_of(world: World, batch: str, number: int) -> Job:
    token = str(world.client.hget(world.keys.batch(batch), "token") or b"", "ascii")
    return Job(LINE, "task", "w", batch, number, proof=proof(token, number, 0))


def outcome(*, ok: bool = True, **settlement: object) -> Outcome:
    closing = Settlement(**{"amount": 40, "costs": ({"rpm": 1, "tpm": 3_000},), "columns": {"calls": 1}} | settlement)
    settled = settlement_json("r", "o", closing)
    return Outcome(ok=ok, line=b"{}", cost=40, cached_tokens=5, reasoning_tokens=3, settlement=settled)


def everything(world: World) -> dict[bytes, Any]:
    """Every key of the server with its content, without the clock."""
    keys = world.client.scan_iter(count=1000)
    return {key: world.client.dump(key) for key in keys if key != world.keys.clock.encode()}


def look(world: World) -> Snapshot:
    return world.server.run(snapshot(world.keys, [("b", QUOTA)], ["c"], (), [BUDGET]))


@pytest.mark.parametrize("of_batch", [True, False])
def test_settles_and_records_in_one_step(world: World, batch: str, of_batch: bool) -> None:
    job = line_of(world, batch, 1) if of_batch else Job(LINE, "task", "w")
    assert world.server.run(finish(world.keys, job, outcome())).counts
    after = look(world)
    assert (after.budgets[0].spent, after.budgets[0].held) == (40, 0)
    assert after.buckets[0].in_flight == 0
    assert after.circuits[0].calls == 1
    assert after.open_reservations == 0
    tokens = next(state for state in after.buckets[0].dimensions if state.name == "tpm")
    assert tokens.available >= 7_000
    days = [int(time.time() // 86_400) - 1, int(time.time() // 86_400)]
    assert list(ledger(world.server, world.keys, days).values()) == [{"calls": 1, "cost": 40}]
    # The same again changes nothing.
    assert not world.server.run(finish(world.keys, job, outcome())).counts
    again = look(world)
    assert (again.budgets, again.circuits[0].calls) == (after.budgets, 1)
    assert list(ledger(world.server, world.keys, days).values()) == [{"calls": 1, "cost": 40}]


def test_another_delivery_settles_what_it_has_spent_and_counts_for_nothing(world: World, batch: str) -> None:
    job = line_of(world, batch, 1)
    assert world.server.run(finish(world.keys, job, Outcome(ok=True, line=b"{}"))).counts
    assert not world.server.run(finish(world.keys, job, outcome())).counts
    assert (look(world).budgets[0].spent, look(world).budgets[0].held) == (40, 0)


def test_a_forged_message_settles_nothing(world: World, batch: str) -> None:
    job = replace(line_of(world, batch, 1), proof=proof("another token", 1, 0))
    before = everything(world)
    assert not world.server.run(finish(world.keys, job, outcome())).counts
    assert everything(world) == before
    assert (look(world).budgets[0].spent, look(world).budgets[0].held) == (0, 100)
    # The true message settles and ends the job.
    assert world.server.run(finish(world.keys, line_of(world, batch, 1), outcome())).counts
    assert (look(world).budgets[0].spent, look(world).budgets[0].held) == (40, 0)


def test_a_forged_message_beside_a_true_one_settles_nothing(world: World, batch: str) -> None:
    forged = finish(world.keys, replace(line_of(world, batch, 1), number=2), outcome())
    true = finish(world.keys, line_of(world, batch, 1), Outcome(ok=True, line=b"{}"))
    joined = Call(true.script, true.keys, (*forged.args, true.args[-1]), list)
    assert world.server.run(joined) == [[0, 0], [1, 0]]
    assert (look(world).budgets[0].spent, look(world).budgets[0].held) == (0, 100)


def test_money_is_booked_though_the_record_is_gone(world: World, batch: str) -> None:
    job = line_of(world, batch, 1)
    world.client.delete(world.keys.batch(batch))
    assert not world.server.run(finish(world.keys, job, outcome())).counts
    assert (look(world).budgets[0].spent, look(world).budgets[0].held) == (40, 0)
    assert not world.client.exists(world.keys.batch(batch), world.keys.results(batch), world.keys.done(batch))


def test_headers_failures_and_refusals_come_along(world: World, batch: str) -> None:
    settings = CircuitSettings(volume=1)
    job = line_of(world, batch, 2)
    closing = outcome(ok=False, failed=True, outcome="failure", circuit=settings, throttles=(Throttle("b", 30.0),))
    assert world.server.run(finish(world.keys, job, closing)).counts
    after = look(world)
    assert after.circuits[0].state == "open"
    assert after.buckets[0].paused_until > after.now
    days = [int(time.time() // 86_400) - 1, int(time.time() // 86_400)]
    assert list(ledger(world.server, world.keys, days).values()) == [{"calls": 1, "failed_cost": 40}]


def test_nothing_is_open(world: World, batch: str) -> None:
    before = look(world).budgets
    job = line_of(world, batch, 1)
    assert world.server.run(finish(world.keys, job, Outcome(ok=False, line=b"{}"))).counts
    assert look(world).budgets == before


def test_jobs_that_end_together_are_recorded_by_one_script(world: World, batch: str, url: str) -> None:
    first, second = line_of(world, batch, 1), line_of(world, batch, 2)
    forged = replace(first, number=2)
    ends = [
        finish(world.keys, first, replace(outcome(), line=b'{"n":1}', check="invalid"), calls=1),
        finish(world.keys, first, outcome(), calls=1),
        finish(world.keys, forged, Outcome(ok=True, line=b"{}")),
        finish(
            world.keys,
            second,
            Outcome(ok=False, line=b'{"n":2}', cost=7, ceiling="own", check="truncated"),
            throttles=2,
        ),
    ]
    world.server.run(ends[2])  # the server knows the script now

    async def together() -> list[Finished]:
        server = AsyncServer(url)
        await server.execute("CONFIG", "RESETSTAT")
        found = await asyncio.gather(*(server.run(each) for each in ends))
        await server.aclose()
        return found

    assert [each.counts for each in asyncio.run(together())] == [True, False, False, True]
    stats: Any = world.client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 1
    fields = ("completed", "failed", "cost", "calls", "throttled", "cut_off", "cached_tokens", "reasoning_tokens")
    record: Any = world.client.hmget(world.keys.batch(batch), fields)
    assert [int(each) for each in record] == [1, 1, 47, 1, 2, 1, 5, 3]
    checks: Any = world.client.hget(world.keys.batch(batch), "checks")
    assert orjson.loads(checks) == {"invalid": 1, "failed_truncated": 1}
    entries: Any = world.client.xrange(world.keys.results(batch))
    assert [each for _, each in entries] == [
        {b"n": b"1", b"k": b"1", b"d": b'{"n":1}'},
        {b"n": b"2", b"k": b"0", b"d": b'{"n":2}'},
    ]
    assert (look(world).budgets[0].spent, look(world).open_reservations) == (40, 0)
