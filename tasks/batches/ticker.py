"""Takes due ticks from Redis and runs them, in every worker.

The set in Redis is the truth (tasks/batches/due_ticks.py). A tick that is taken is due again after `LEASE` seconds, so
another worker soon takes the tick of a killed one; while a tick runs, its lease is renewed. Ticks run in a thread of
their own in each worker's main process, so neither a full pool nor a long queue delays them.
"""

import logging
import threading
from typing import Any
from uuid import uuid4

import redis
from celery import bootsteps

from limits.errors import ServerUnavailable
from tasks.batches.live import Live
from tasks.batches.store import Store, open_store
from tasks.batches.ticks import AFTER_TROUBLE, Idle, run_tick
from workers.celery import app
from workers.config.current import current_settings

log = logging.getLogger(__name__)

#: Seconds between two looks for due ticks by the worker on duty, and by one that has just found some.
LOOK_EVERY = 0.2

#: Seconds between two looks by the other workers.
STAND_BY = 1.0

#: Seconds for which no other worker takes a tick. A running tick renews its lease four times as often.
LEASE = 10.0


class LeaseKeeper(threading.Thread):
    """Renews the lease of the tick that runs, however long it takes, so that no other worker takes it."""

    def __init__(self, store: Store, worker: str) -> None:
        super().__init__(name="ticker-lease", daemon=True)
        self.store = store
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
                        self.store.ticks.again(seen, LEASE)
                        self.store.ticks.seen(self.worker)
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
                self.store.ticks.idle(tick, again.seconds, again.batch, again.latest)
            else:
                self.store.ticks.again(tick, again)

    def drop(self) -> None:
        """The tick failed: let its lease run out, so that any worker takes it again."""
        with self._lock:
            self._running = None


class Ticker(threading.Thread):
    """The thread that takes due ticks and runs them, until `stopping` is set."""

    def __init__(self, store: Store) -> None:
        super().__init__(name="ticker", daemon=True)
        self.store = store
        self.stopping = threading.Event()
        self.live = Live(store)
        self.worker = uuid4().hex
        self.keeper = LeaseKeeper(store, self.worker)

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
                duty, taken = self.store.ticks.take(LEASE, 1, self.worker, 3 * LOOK_EVERY)
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
        self.keeper.give(run_tick(self.store, tick, self.live))


class TickerStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Starts a ticker with each worker, after its pool."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.ticker: Ticker | None = None

    def start(self, worker: Any) -> None:
        """Start taking ticks."""
        del worker
        self.ticker = Ticker(open_store(current_settings()))
        self.ticker.start()

    def stop(self, worker: Any) -> None:
        """Finish the running tick and take no more."""
        del worker
        if self.ticker is not None:
            self.ticker.stopping.set()
            self.ticker.join(timeout=10)
            self.ticker = None

    terminate = stop


app.steps["worker"].add(TickerStep)
