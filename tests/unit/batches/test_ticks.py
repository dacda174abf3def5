"""One worker at a time runs a tick, however long that takes. If it dies, another soon takes the tick."""

import threading
import time
from collections.abc import Iterator

import pytest

from tasks.batches import ticker as ticker_module
from tasks.batches import ticks, window
from tasks.batches.batch import Batch
from tasks.batches.live import Live
from tasks.batches.store import Store
from tasks.batches.ticker import LeaseKeeper, Ticker
from tests.support.site import wait_for
from tests.unit.batches.conftest import World

LEASE = 0.4
TICK = "collect:batch_1"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticker_module, "LEASE", LEASE)
    monkeypatch.setattr(ticker_module, "LOOK_EVERY", 0.02)


@pytest.fixture
def at_work(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Ticker, threading.Event]]:
    """A worker in the middle of a tick, until the event is set."""
    begun, done = threading.Event(), threading.Event()

    def run_tick(store: Store, tick: str, live: Live) -> float | None:
        del store, live
        if tick == TICK:
            begun.set()
            done.wait(20)
        return 30.0

    monkeypatch.setattr(ticker_module, "run_tick", run_tick)
    world.batch(1)
    ticker = Ticker(world.connect())
    ticker.start()
    try:
        assert begun.wait(10)
        yield ticker, done
    finally:
        done.set()
        ticker.stopping.set()
        ticker.join(10)
        ticker.store.client.close()


def _taken_within(world: World, seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if TICK in world.store.ticks.take(LEASE, 2, "another", 1.0)[1]:
            return True
        time.sleep(0.02)
    return False


def test_no_worker_takes_a_tick_that_still_runs(world: World, at_work: tuple[Ticker, threading.Event]) -> None:
    ticker, done = at_work
    assert not _taken_within(world, 4 * LEASE)
    done.set()
    wait_for(lambda: _due(world) > LEASE, 10.0, what="the worker's word of when it is due again")
    assert _due(world) == pytest.approx(30.0, abs=3.0)
    assert ticker.is_alive()


def test_another_worker_takes_a_dead_workers_tick(world: World, at_work: tuple[Ticker, threading.Event]) -> None:
    ticker, _ = at_work
    ticker.keeper.over.set()  # like a kill
    ticker.keeper.join(10)
    assert _taken_within(world, 10 * LEASE)


def test_one_worker_is_on_duty_and_another_after_its_death(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticker_module, "LOOK_EVERY", 0.2)
    first, second = Ticker(world.connect()), Ticker(world.connect())
    for each in (first, second):
        each.store.client.ping()
    assert (first.look(), second.look(), first.look()) == (
        ticker_module.LOOK_EVERY,
        ticker_module.STAND_BY,
        ticker_module.LOOK_EVERY,
    )
    # The first is killed, and asks no more.
    wait_for(lambda: second.look() == ticker_module.LOOK_EVERY, 2.0, every=0.01, what="its duty")
    assert first.look() == ticker_module.STAND_BY
    for each in (first, second):
        each.store.client.close()


def test_a_worker_that_finds_a_tick_looks_again_soon(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticker_module, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(ticker_module, "run_tick", lambda *_: 30.0)
    on_duty, other = Ticker(world.connect()), Ticker(world.connect())
    assert on_duty.look() == ticker_module.LOOK_EVERY
    world.batch(1)
    assert (other.look(), other.look()) == (ticker_module.LOOK_EVERY, ticker_module.STAND_BY)
    for each in (on_duty, other):
        each.store.client.close()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish nothing; the broker doesn't report the size of its queues."""
    monkeypatch.setattr(ticks, "publish", lambda *_: None)
    monkeypatch.setattr(ticks, "depth", lambda *_: None)


def _run(world: World, tick: str) -> float:
    """Take and run a tick as a worker does; returns the seconds until it is due again."""
    world.store.ticks.take(10.0, 10, "me", 1.0)
    keeper = LeaseKeeper(world.store.ticks, "me")
    keeper.take(tick)
    keeper.give(ticks.run_tick(world.store, tick))
    return _due(world, tick)


@pytest.mark.usefixtures("alone")
def test_a_tick_with_nothing_to_do_comes_less_often(world: World) -> None:
    batch = world.batch(3)
    assert _run(world, "feed:batch_1") == pytest.approx(ticks.NEXT, abs=0.2), "there may be more to hand out"
    assert _run(world, "feed:batch_1") == pytest.approx(ticks.ALL_FED, abs=0.2)
    world.store.client.zadd(world.store.keys.ticks, {f"feed:other_{number}": 2**52 for number in range(6_000)})
    assert _run(world, "feed:batch_1") == pytest.approx(ticks.IDLE, abs=0.2), "the more there are, the less often each"
    assert _run(world, "collect:batch_1") == pytest.approx(ticks.IDLE, abs=0.2)
    assert world.store.stop(batch, "cancelled").stopping
    assert _due(world, "feed:batch_1") <= 0, "a cancelled batch need not wait for that"
    assert _run(world, "feed:batch_1") == pytest.approx(ticks.NEXT, abs=0.2)


@pytest.mark.usefixtures("alone")
def test_ended_jobs_wake_the_collector_and_it_wakes_the_feeder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "WINDOW_JOBS", 2)
    world.store.client.zadd(world.store.keys.ticks, {f"feed:other_{number}": 2**52 for number in range(6_000)})
    batch = world.batch(5)
    _run(world, "feed:batch_1")
    assert _run(world, "feed:batch_1") > 10
    assert _run(world, "collect:batch_1") > 10
    world.finish(batch, 1)
    assert _due(world) < -30, "before all that only come round"
    assert _run(world, "collect:batch_1") > 0
    assert _due(world, "feed:batch_1") < -30
    _run(world, "feed:batch_1")
    assert world.now(batch).fed == 3


def test_a_new_batch_runs_before_idle_ticks(world: World) -> None:
    first = world.batch(1)
    assert _due(world, "feed:batch_1") < -30
    world.finish(first, 1)
    assert _due(world) < -30, "its collector need not have looked before"


@pytest.mark.usefixtures("alone")
def test_a_job_that_ends_during_a_tick_is_not_missed(world: World) -> None:
    batch = world.batch(3)
    world.store.ticks.take(10.0, 10, "me", 1.0)
    keeper = LeaseKeeper(world.store.ticks, "me")
    keeper.take(TICK)
    again = ticks.run_tick(world.store, TICK)
    world.finish(batch, 1)
    assert _due(world) > 5, "its worker has it"
    keeper.give(again)
    assert _due(world) == pytest.approx(ticks.NEXT, abs=0.2)


@pytest.mark.usefixtures("alone")
def test_an_idle_batch_expires_in_time(world: World) -> None:
    world.store.client.zadd(world.store.keys.ticks, {f"feed:other_{number}": 2**52 for number in range(6_000)})
    world.batch(1, deadline=30.0)
    _run(world, "feed:batch_1")
    assert _run(world, "feed:batch_1") == pytest.approx(30.0, abs=10.0)


def test_workers_are_known_by_their_ticks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.store.ticks.workers() is None
    world.batch(1)
    monkeypatch.setattr("tasks.batches.due_ticks._OVERDUE", 0.0)
    assert world.store.ticks.workers() == 0
    world.store.ticks.take(10.0, 10, "one", 1.0)
    world.store.ticks.take(10.0, 10, "two", 1.0)
    assert world.store.ticks.workers() == 2
    monkeypatch.setattr("tasks.batches.due_ticks._WORKER_TIMEOUT", 0.0)
    assert world.store.ticks.workers() is None, "its ticks are not overdue"


def _due(world: World, tick: str = TICK) -> float:
    due = world.store.client.zscore(world.store.keys.ticks, tick)
    assert isinstance(due, float)
    return due / 1_000_000 - time.time()


def test_a_ticker_survives_every_error(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """First a permission is missing for a moment, then unexpected errors are raised."""
    ran: list[str] = []
    monkeypatch.setattr(ticker_module, "run_tick", lambda _, tick, _live: ran.append(tick))
    monkeypatch.setattr(ticker_module, "AFTER_TROUBLE", 0.05)
    client, ticker = world.store.client, Ticker(world.connect())
    client.execute_command("ACL", "SETUSER", "default", "-@scripting")
    try:
        ticker.start()
        wait_for(lambda: "no ticks while" in caplog.text, what="a refusal")
        client.execute_command("ACL", "SETUSER", "default", "+@scripting")
        taken = ticker.store.ticks.take

        for error in (KeyError("unforeseen"), SystemExit("an exit")):

            def fails(*_: object, error: BaseException = error) -> None:
                monkeypatch.setattr(ticker.store.ticks, "take", taken)
                raise error

            monkeypatch.setattr(ticker.store.ticks, "take", fails)
            wait_for(lambda error=error: str(error) in caplog.text, what="a failure")
        world.batch(1)
        wait_for(lambda: TICK in ran, what="a tick")
        assert ticker.is_alive()
    finally:
        client.execute_command("ACL", "SETUSER", "default", "+@scripting")
        ticker.stopping.set()
        ticker.join(10)
        ticker.store.client.close()
        client.delete(world.store.keys.ticks_duty)  # in its last milliseconds its TTL rounds to 0


def test_a_step_that_exits_is_named_and_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that calls `sys.exit` ends neither the ticker nor the batch."""
    monkeypatch.setattr(ticks, "AFTER_TROUBLE", 0.2)
    exits = threading.Event()
    collect = ticks.collect

    def step(store: Store, batch: Batch) -> Batch:
        if not exits.is_set():
            raise SystemExit(3)
        return collect(store, batch)

    monkeypatch.setattr(ticks, "collect", step)
    monkeypatch.setattr(ticks, "_fed", lambda _store, batch, _live: batch)
    batch = world.batch(1)
    ticker = Ticker(world.connect())
    ticker.start()
    try:
        wait_for(lambda: "SystemExit(3)" in world.now(batch).trouble, what="its trouble")
        exits.set()
        wait_for(lambda: not world.now(batch).trouble, what="a step that succeeds")
    finally:
        ticker.stopping.set()
        ticker.join(10)
        ticker.store.client.close()
        world.store.client.delete(world.store.keys.ticks_duty)  # in its last milliseconds its TTL rounds to 0
