"""Which lines are never handed out, or not in this round."""

from typing import cast

from tasks.batches.batch import Batch
from tasks.batches.copies import copy_maps
from tasks.batches.line_set import LineSet
from tasks.batches.pilot import pilot_map
from tasks.batches.store import Store


def not_to_feed(store: Store, batch: Batch) -> LineSet:
    """The copies, the pilot, what succeeded in earlier rounds, and what the batch lane has taken in this round."""
    settled = cast("bytes", store.client.get(store.keys.settled(batch.id)) or b"") if batch.round else b""
    taken = cast("bytes", store.client.get(store.keys.taken(batch.id)) or b"") if batch.has_batch_lane else b""
    return LineSet(settled, taken, pilot_map(batch), *copy_maps(batch))


def not_to_end(store: Store, batch: Batch) -> LineSet:
    """The lines that have ended, those that are in the batch lane now, and the copies, which end by their originals."""
    return LineSet(*store.ended_maps(batch.id), store.offloaded_map(batch), *copy_maps(batch))
