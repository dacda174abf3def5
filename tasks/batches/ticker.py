"""Takes due ticks from Redis and runs them, in every worker.

The set in Redis is the truth (tasks/batches/due_ticks.py). A tick that is taken is due again after `LEASE` seconds, so
another worker soon takes the tick of a killed one; while a tick runs, its lease is renewed. Ticks run in a thread of
their own in each worker's main process, so neither a full pool nor a long queue delays them. Those of the batch lane
run in a second such thread.
"""

import logging
import threading
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import redis
from celery import bootsteps

from limits.errors import ServerUnavailable
from tasks.batches.due_ticks import DueTicks
from tasks.batches.lane_ticks import run_lane_tick
from tasks.batches.live import Live
from tasks.batches.store import Store, open_store
from tasks.batches.ticks import AFTER_TROUBLE, Idle, run_tick
from workers.celery import app
from workers.config.current import current_settings

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

#: Seconds between two looks for due ticks by the worker on duty, and by one that has just found some.
LOOK_EVERY = 0.2

#: Seconds between two looks by the other workers.
STAND_BY = 1.0

#: Seconds for which no other worker takes a tick. A running tick renews its lease four times as often.
LEASE = 10.0


class LeaseKeeper(threading.Thread):
    """Renews the lease of the tick that runs, however long it takes, so that no other worker takes it."""

    def __init__(self, ticks: DueTicks, worker: str) -> None:
        super().__init__(name="ticker-lease", daemon=True)
        self.ticks = ticks
        self.worker = worker
        self.over = threading.Event()
        self._running: str | None = None
        self._lock = threading.Lock()

    def run(self) -> None:
        """Renew the lease of a tick that has run for a while."""
        seen = None
        while not self.over.wait(LEASE / 4):
            with self._lock:
                if self._running is not None and self._running is seen:
                    try:
                        self.ticks.again(seen, LEASE)
                        self.ticks.seen(self.worker)
                    except (ServerUnavailable, redis.RedisError) as exc:
                        log.debug("cannot renew tick %s: %r", seen, exc)
                    except Exception:
                        log.exception("cannot renew tick %s", seen)
                seen = self._running

    def take(self, tick: str) -> None:
        """Start to keep the lease of `tick`."""
        with self._lock:
            self._running = tick

    def give(self, again: float | Idle | None) -> None:
        """The tick is done: make it due again in `again` seconds; None removes it."""
        with self._lock:
            tick, self._running = self._running, None
            if tick is None:
                return
            if isinstance(again, Idle):
                self.ticks.idle(tick, again.seconds, again.batch, again.latest)
            else:
                self.ticks.again(tick, again)

    def drop(self) -> None:
        """The tick failed: let its lease run out, so that any worker takes it again."""
        with self._lock:
            self._running = None


class Ticker(threading.Thread):
    """The thread that takes due ticks and runs them, until `stopping` is set. `of_lane`: those of the batch lane."""

    def __init__(self, store: Store, *, of_lane: bool = False) -> None:
        super().__init__(name="lane-ticker" if of_lane else "ticker", daemon=True)
        self.store = store
        self.ticks = store.lane_ticks if of_lane else store.ticks
        self.run_one: Callable[[Store, str, Live], float | Idle | None] = run_lane_tick if of_lane else run_tick
        self.stopping = threading.Event()
        self.live = Live(store)
        self.worker = uuid4().hex
        self.keeper = LeaseKeeper(self.ticks, self.worker)

    def run(self) -> None:
        """Run ticks. No error may end this thread: without it no batch makes progress."""
        self.keeper.start()
        try:
            pause = LOOK_EVERY
            while not self.stopping.wait(pause):
                pause = self.look()
        finally:
            self.keeper.over.set()

    def look(self) -> float:
        """Run all ticks that are due, one after the other; returns the seconds until the next look."""
        found = False
        try:
            while not self.stopping.is_set():
                duty, taken = self.ticks.take(LEASE, 1, self.worker, 3 * LOOK_EVERY)
                if not taken:
                    return LOOK_EVERY if duty or found else STAND_BY
                self.tick(taken[0])
                found = True
        except (ServerUnavailable, redis.RedisError) as exc:
            self.keeper.drop()
            log.warning("no ticks while the server is unreachable: %s", exc)
            self.stopping.wait(1.0)
        except BaseException:
            self.keeper.drop()
            log.exception("a tick failed; looking again in %g s", AFTER_TROUBLE)
            self.stopping.wait(AFTER_TROUBLE)
        return LOOK_EVERY

    def tick(self, tick: str) -> None:
        """Run one tick and say when it is due again."""
        self.keeper.take(tick)
        self.keeper.give(self.run_one(self.store, tick, self.live))


class TickerStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Starts the tickers with each worker, after its pool."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.tickers: list[Ticker] = []

    def start(self, worker: Any) -> None:
        """Start taking ticks."""
        del worker
        settings = current_settings()
        self.tickers = [Ticker(open_store(settings)), Ticker(open_store(settings), of_lane=True)]
        for ticker in self.tickers:
            ticker.start()

    def stop(self, worker: Any) -> None:
        """Finish the running ticks and take no more."""
        del worker
        for ticker in self.tickers:
            ticker.stopping.set()
        for ticker in self.tickers:
            ticker.join(timeout=10)
        self.tickers = []

    terminate = stop


app.steps["worker"].add(TickerStep)
