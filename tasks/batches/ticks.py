"""What drives feed and collect: ticks, taken from a due-set in Redis by whichever worker is alive.

The due-set is the truth. A tick that is taken is due again some seconds later unless its worker, while it works on
it, says otherwise, so that a killed worker's tick is another's soon; a tick that runs twice changes nothing, since
feed and collect move their batch by compare-and-set. Ticks run in a thread of their own in every worker's main
process: neither a full pool nor a long queue can hold them up.
"""

import logging
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import uuid4

import redis
from celery import bootsteps

from limits.errors import ServerUnavailable
from tasks.batches.batch import Batch
from tasks.batches.close import close
from tasks.batches.collect import collect
from tasks.batches.feed import feed, publish
from tasks.batches.live import Live
from tasks.batches.store import Store, open_store
from tasks.jobs.proof import new_token
from tasks.jobs.storage import StorageError
from workers.celery import app
from workers.config.current import current_settings
from workers.transport.queues import depths, queue_name

log = logging.getLogger(__name__)

FEED, COLLECT = "feed", "collect"

#: Seconds: how often a worker looks for due ticks that is on duty, or has just found one, and how often the others do;
#: how long others leave a taken one alone (its worker says so again four times in that time, while it works on it), and
#: when the next is due (while there is something to do; when all jobs are handed out, and only those that got lost are
#: left to be found; when there was trouble).
LOOK_EVERY, STAND_BY, LEASE, NEXT, ALL_FED, AFTER_TROUBLE = 0.2, 1.0, 10.0, 0.3, 1.0, 5.0

#: A tick that has nothing to do until a job ends comes at least once in so many seconds: nothing else may go unnoticed
#: for longer, be it a deadline or a message that was lost.
IDLE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Idle:
    """A tick had nothing to do: it is due when a job of its batch ends, at the earliest in `seconds`."""

    batch: Batch
    seconds: float

    @property
    def latest(self) -> float:
        """In how many seconds it is due if nothing happens."""
        left = self.batch.deadline - time.time() if self.batch.deadline and not self.batch.stopping else IDLE
        return max(self.seconds, min(IDLE, left))


def run_tick(store: Store, tick: str, live: Live | None = None) -> float | Idle | None:
    """Do one tick's work; returns in how many seconds it is due again, None when its batch needs it no more.

    `live`: what all live batches have out, as this worker has read it.
    """
    kind, _, batch_id = tick.partition(":")
    batch = store.batch(batch_id)
    if batch is None or batch.over:
        return None
    try:
        if kind == FEED:
            before, batch = batch, _fed(store, batch, live)
        elif kind == COLLECT:
            before, batch = batch, collect(store, batch)
        else:
            log.error("tick %r is none of ours and is dropped", tick)
            return None
    except StorageError as exc:
        if getattr(batch, f"{kind}_trouble") != str(exc):
            log.error("batch %s waits: %s", batch_id, exc)  # noqa: TRY400 - the words say it all
            store.note(batch, **{f"{kind}_trouble": str(exc)})
        return AFTER_TROUBLE
    except (ServerUnavailable, redis.RedisError):
        raise
    except Exception as exc:
        log.exception("tick %s failed", tick)
        store.note(batch, **{f"{kind}_trouble": f"internal error, see the workers' log: {exc!r}"})
        return AFTER_TROUBLE
    if not batch.over and getattr(batch, f"{kind}_trouble"):
        store.note(batch, **{f"{kind}_trouble": ""})
    if batch.over:
        return None
    return _next(store, kind, before, batch)


def _next(store: Store, kind: str, before: Batch, batch: Batch) -> float | Idle:
    """When a tick is due again that met no trouble; `before` is the batch as the tick found it."""
    fed = batch.fed >= batch.total
    if kind == COLLECT:
        if not fed and batch.written_id != before.written_id:
            store.wake(f"{FEED}:{batch.id}")
        return NEXT if batch.plan else Idle(batch, NEXT)
    if batch.stopping or batch.status != "in_progress" or batch.fed != before.fed:
        return NEXT
    return Idle(batch, ALL_FED if fed else NEXT)


def _fed(store: Store, batch: Batch, live: Live | None = None) -> Batch:
    """Hand out more jobs, or end those that will not run any more."""
    if not batch.token:  # submitted by a version that made none
        store.note(batch, token=new_token())
        batch = store.batch(batch.id) or batch
    if batch.status == "in_progress" and batch.deadline and time.time() > batch.deadline:
        batch = store.stop(batch, "expired")
    if batch.stopping:
        close(store, batch)
        return store.batch(batch.id) or batch
    if batch.status == "in_progress":
        feed(store, batch, publish, partial(depth, store), 2 * current_settings().visibility_timeout, live)
        if batch.fed < batch.total:
            return store.batch(batch.id) or batch
    return batch


def depth(store: Store, workflow: str) -> int | None:
    """The messages of a workflow, wherever they are; None where another broker holds them."""
    if current_settings().broker_url is not None:
        return None
    queue = queue_name(workflow)
    return depths(store.client, store.keys, [queue])[queue].total


class Hold(threading.Thread):
    """The thread that keeps the tick at hand from the other workers for as long as it takes, a big write to S3 say."""

    def __init__(self, store: Store, who: str) -> None:
        super().__init__(name="ticker-hold", daemon=True)
        self.store = store
        self.who = who
        self.over = threading.Event()
        self._at_hand: str | None = None
        self._lock = threading.Lock()

    def run(self) -> None:
        """Renew what has been at hand for a while."""
        seen = None
        while not self.over.wait(LEASE / 4):
            with self._lock:
                if self._at_hand is not None and self._at_hand is seen:
                    try:
                        self.store.tick_again(seen, LEASE)
                        self.store.present(self.who)
                    except Exception as exc:  # noqa: BLE001 - the thread must outlive whatever befalls one renewal
                        log.debug("the tick %s is not renewed: %r", seen, exc)
                seen = self._at_hand

    def take(self, tick: str) -> None:
        """This tick is at hand from now on."""
        with self._lock:
            self._at_hand = tick

    def give(self, again: float | Idle | None) -> None:
        """The tick at hand is done, and due again in so many seconds; None: never."""
        with self._lock:
            tick, self._at_hand = self._at_hand, None
            if tick is None:
                return
            if isinstance(again, Idle):
                self.store.tick_idle(tick, again.seconds, again.batch, again.latest)
            else:
                self.store.tick_again(tick, again)

    def drop(self) -> None:
        """The tick at hand came to nothing: whoever looks when its lease has ended, takes it."""
        with self._lock:
            self._at_hand = None


class Ticker(threading.Thread):
    """The thread that takes due ticks and runs them, until it is told to stop."""

    def __init__(self, store: Store) -> None:
        super().__init__(name="ticker", daemon=True)
        self.store = store
        self.stopping = threading.Event()
        self.live = Live(store)
        self.name_on_duty = uuid4().hex
        self.hold = Hold(store, self.name_on_duty)

    def run(self) -> None:
        """Look, work, and never die of any trouble: without this thread no batch goes on."""
        self.hold.start()
        try:
            pause = LOOK_EVERY
            while not self.stopping.wait(pause):
                pause = self.look()
        finally:
            self.hold.over.set()

    def look(self) -> float:
        """Take what is due, one after the other; returns in how many seconds to look again."""
        found = False
        try:
            while not self.stopping.is_set():
                duty, taken = self.store.take_ticks(LEASE, 1, self.name_on_duty, 3 * LOOK_EVERY)
                if not taken:
                    return LOOK_EVERY if duty or found else STAND_BY
                self.tick(taken[0])
                found = True
        except (ServerUnavailable, redis.RedisError) as exc:
            self.hold.drop()
            log.warning("no ticks while the server is unreachable: %s", exc)
            self.stopping.wait(1.0)
        except Exception:
            self.hold.drop()
            log.exception("no tick was run, and another look comes in %g s", AFTER_TROUBLE)
            self.stopping.wait(AFTER_TROUBLE)
        return LOOK_EVERY

    def tick(self, tick: str) -> None:
        """Run one tick and say when it is due again."""
        self.hold.take(tick)
        self.hold.give(run_tick(self.store, tick, self.live))


class TickerStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Starts a ticker with each worker, after its pool."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.ticker: Ticker | None = None

    def start(self, worker: Any) -> None:
        """Begin to take ticks."""
        del worker
        self.ticker = Ticker(open_store(current_settings()))
        self.ticker.start()

    def stop(self, worker: Any) -> None:
        """Finish the tick at hand and take no more."""
        del worker
        if self.ticker is not None:
            self.ticker.stopping.set()
            self.ticker.join(timeout=10)
            self.ticker = None

    terminate = stop


app.steps["worker"].add(TickerStep)
