"""One tick: feeds or collects one batch, and says when it is due again.

A tick may run twice, because feed and collect move their batch by compare-and-set.
"""

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Final

import redis

from limits.errors import ServerUnavailable
from tasks.batches.batch import Batch
from tasks.batches.close import close
from tasks.batches.collect import collect
from tasks.batches.feed import feed, publish
from tasks.batches.lane_ticks import ensure
from tasks.batches.live import Live
from tasks.batches.pilot_feed import feed_pilot
from tasks.batches.store import Store
from tasks.jobs.proof import new_token
from tasks.jobs.storage import StorageError
from workers.config.current import current_settings
from workers.transport.queues import depths, queue_name

log = logging.getLogger(__name__)

FEED, COLLECT = "feed", "collect"

#: Seconds until a tick is due again while there is work.
NEXT: Final = 0.3

#: Seconds until a feed tick is due again when all jobs are handed out: then it only looks for lost messages.
ALL_FED: Final = 1.0

#: Seconds until a tick that failed is due again.
AFTER_TROUBLE: Final = 5.0

#: Seconds until an idle tick is due at the latest. Within them it notices whatever is not the end of a job, such as a
#: lost message.
IDLE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Idle:
    """A tick had nothing to do: it is due when a job of its batch ends, but in `seconds` at the earliest."""

    batch: Batch
    seconds: float

    @property
    def latest(self) -> float:
        """Seconds until it is due even if no job ends."""
        left = self.batch.deadline - time.time() if self.batch.deadline and not self.batch.stopping else IDLE
        return max(self.seconds, min(IDLE, left))


def run_tick(store: Store, tick: str, live: Live | None = None) -> float | Idle | None:
    """Run one tick; returns the seconds until it is due again, `Idle`, or None if its batch has ended.

    `live` is what all live batches have out, as this worker last read it.
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
            log.error("dropping unknown tick %r", tick)
            return None
    except StorageError as exc:
        if getattr(batch, f"{kind}_trouble") != str(exc):
            log.error("batch %s waits: %s", batch_id, exc)  # noqa: TRY400 - the message is enough
            store.note(batch, **{f"{kind}_trouble": str(exc)})
        return AFTER_TROUBLE
    except (ServerUnavailable, redis.RedisError):
        raise
    except BaseException as exc:  # SystemExit, too: status must name it
        log.exception("tick %s failed", tick)
        store.note(batch, **{f"{kind}_trouble": f"internal error, see the workers' log: {exc!r}"})
        return AFTER_TROUBLE
    if not batch.over and getattr(batch, f"{kind}_trouble"):
        store.note(batch, **{f"{kind}_trouble": ""})
    if batch.over:
        return None
    return _next(store, kind, before, batch)


def _next(store: Store, kind: str, before: Batch, batch: Batch) -> float | Idle:
    """When a tick that succeeded is due again. `before` is the batch as the tick found it."""
    fed = batch.to_feed <= 0
    if kind == COLLECT:
        if not fed and batch.written_id != before.written_id:
            store.ticks.wake(f"{FEED}:{batch.id}")
        return NEXT if batch.plan else Idle(batch, NEXT)
    if batch.in_pilot:
        return ALL_FED  # what ends the pilot is no job
    if batch.stopping or batch.status != "in_progress" or batch.fed != before.fed:
        return NEXT
    return Idle(batch, ALL_FED if fed else NEXT)


def _fed(store: Store, batch: Batch, live: Live | None = None) -> Batch:
    """Hand out more jobs; of a stopped batch, end those that it no longer runs."""
    if not batch.token:  # a version without tokens has created this batch
        store.note(batch, token=new_token())
        batch = store.batch(batch.id) or batch
    if batch.has_batch_lane:
        ensure(store, batch.id, batch.deadline)
    if batch.status == "in_progress" and batch.deadline and time.time() > batch.deadline:
        batch = store.stop(batch, "expired")
    if batch.stopping:
        close(store, batch)
        return store.batch(batch.id) or batch
    if batch.status == "in_progress" and not store.is_paused(batch):
        feeding = feed_pilot if batch.in_pilot else feed
        feeding(store, batch, publish, partial(depth, store), 2 * current_settings().visibility_timeout, live)
        if batch.to_feed > 0:
            return store.batch(batch.id) or batch
    return batch


def depth(store: Store, workflow: str) -> int | None:
    """The number of a workflow's messages: queued, delayed and in flight; None if another broker holds them."""
    if current_settings().broker_url is not None:
        return None
    queue = queue_name(workflow)
    return depths(store.client, store.keys, [queue])[queue].total
