"""Runs the ticks of the batch lane, and those that check an input. They may take minutes, so they have a thread."""

import logging
import time
from typing import Final

import redis

from limits.errors import ServerUnavailable
from tasks.batches.acceptance import VALIDATE
from tasks.batches.live import Live
from tasks.batches.offload import offload
from tasks.batches.store import Store
from tasks.batches.validation import validate
from tasks.batches.webhooks import NOTIFY, notify
from tasks.jobs.storage import StorageError
from workers.config.current import current_settings

log = logging.getLogger(__name__)

#: What a tick of the batch lane is called, before the batch's id.
OFFLOAD: Final = "offload"

#: Seconds until a tick that failed is due again.
AFTER_TROUBLE: Final = 10.0

#: Seconds that the set of ticks lives after a batch's deadline: a provider batch may end after its batch.
KEPT: Final = 8 * 86_400.0


def ensure(store: Store, batch_id: str, deadline: float) -> None:
    """Let the batch lane look at a batch from now on."""
    store.lane_ticks.ensure(f"{OFFLOAD}:{batch_id}", max(0.0, deadline - time.time()) + KEPT)


def run_lane_tick(store: Store, tick: str, live: Live) -> float | None:
    """Run one tick; returns the seconds until it is due again, None if the batch lane is done with its batch."""
    kind, _, batch_id = tick.partition(":")
    batch = store.batch(batch_id)
    if batch is None or kind not in {OFFLOAD, VALIDATE, NOTIFY}:
        return None
    again: float | None = None
    try:
        if kind == VALIDATE:
            validate(store, current_settings(), batch)
        elif kind == NOTIFY:
            notify(current_settings(), batch)
        else:
            again = offload(store, current_settings(), batch, live)
    except StorageError as exc:
        trouble = str(exc)
    except (ServerUnavailable, redis.RedisError):
        raise
    except Exception as exc:
        log.exception("tick %s failed", tick)
        trouble = f"internal error, see the workers' log: {exc!r}"
    else:
        if batch.offload_trouble:
            store.note(batch, offload_trouble="")
        return again
    if batch.offload_trouble != trouble:
        log.error("%s of %s waits: %s", "the check" if kind == VALIDATE else "the batch lane", batch_id, trouble)
        store.note(batch, offload_trouble=trouble)
    return AFTER_TROUBLE
