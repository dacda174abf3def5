"""Hands out the pilot of a batch (pilot.py), and lets the rest follow when someone says so.

Until then nothing else is handed out, in no lane. The pilot is called live: it is there to be quick.
"""

from dataclasses import replace

from tasks.batches import window
from tasks.batches.batch import Batch
from tasks.batches.chunk_lines import texts
from tasks.batches.feed import STEP, STEP_BYTES, Publish, Row, find_lost
from tasks.batches.line_set import LineSet
from tasks.batches.live import Depth, Live
from tasks.batches.pilot import places
from tasks.batches.store import Store


def feed_pilot(
    store: Store, batch: Batch, publish: Publish, depth: Depth, lost_after: float, live: Live | None = None
) -> None:
    """One tick: publish the lines of the pilot that fit into the window, and those that were lost."""
    live = live or Live(store, 0.0)

    def publish_live(of: Batch, rows: list[Row]) -> None:
        publish(replace(of, lanes=""), rows)

    if batch.pilot_fed < batch.pilot:
        hand_out(store, batch, publish_live, live)
        return
    find_lost(store, batch, publish_live, live.missing(batch.workflow, depth), lost_after)


def hand_out(store: Store, batch: Batch, publish: Publish, live: Live) -> None:
    """Publish the next lines of the pilot."""
    left = places(batch)[batch.pilot_fed :]
    leased, each = len(store.leased(batch.id)), max(batch.each, left[0].size)
    room = window.room(out=batch.out, leased=leased, left=len(left), each=each, used=live.used())
    found, size = 0, 0
    while found < min(room, STEP) and (not found or size + left[found].size <= STEP_BYTES):
        size += left[found].size
        found += 1
    if found:
        publish(batch, [Row(number, text) for number, text in texts(batch, left[:found])])
        live.handed_out(batch, found)
        store.pilot_fed(batch, found)


def is_answered(store: Store, batch: Batch) -> bool:
    """Whether each line of the pilot has ended, and its result is in a file."""
    if batch.pilot_fed < batch.pilot or batch.plan or store.waiting(batch.id):
        return False
    ended = LineSet(*store.ended_maps(batch.id))
    return all(place.number in ended for place in places(batch))


def go_on(store: Store, batch: Batch) -> None:
    """Let the rest of the batch follow its pilot."""
    store.note(batch, pilot_over=1)
    store.ticks.wake(f"feed:{batch.id}")
    if batch.has_batch_lane:
        store.lane_ticks.again(f"offload:{batch.id}", 0.0)
