"""A tick of the batch lane: divides the input among the lanes, and moves each chunk of a batch on.

Ticks may run twice: a chunk moves by compare-and-set, and a worker that finds it moved leaves it alone. At the latest
moment (takeover.py) chunks are cancelled: what came is kept, and the rest runs live. The tick of a batch that has ended
goes on until its provider batches have, too, since their output is billed and must be booked.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import BinaryIO, Final

from tasks.batches import chunk as chunks
from tasks.batches import takeover
from tasks.batches.batch import Batch
from tasks.batches.batch_lane import BatchLane
from tasks.batches.chunk import Chunk
from tasks.batches.chunk_journal import ChunkJournal, Superseded
from tasks.batches.chunk_lines import read_lines
from tasks.batches.chunk_results import AT_ONCE, ChunkResults
from tasks.batches.chunk_steps import AGAIN, ChunkSteps
from tasks.batches.cutting import divide, leave_to_live
from tasks.batches.feed import MAX_UNWRITTEN
from tasks.batches.files import files_of
from tasks.batches.going_live import go_live
from tasks.batches.live import Live
from tasks.batches.store import Store
from workers.config.settings import Settings
from workers.providers.errors import ProviderError, Refused

log = logging.getLogger(__name__)

#: Chunks that wait to be sent at a time: more would only fill the disk.
MAX_WAITING: Final = 2

#: Seconds after which a tick that still divides its input lets those of other batches run.
BUSY: Final = 2.0

#: Seconds between two ticks while chunks have something to do.
NEXT: Final = 0.3

#: Seconds until a chunk that is not sent yet is looked at again, while its batch is paused.
WHILE_PAUSED: Final = 2.0

#: Seconds until the next tick at most.
REST: Final = 30.0

#: Seconds after its batch's end for which a provider batch that does not end is looked at.
LOOK_AFTER_END: Final = 3 * 86_400.0


class Offload:
    """One tick of one batch."""

    def __init__(self, store: Store, settings: Settings, batch: Batch, live: Live) -> None:
        self.store = store
        self.settings = settings
        self.batch = batch
        self.live = live
        self.lane = BatchLane(store, settings, batch)
        self.journal = ChunkJournal(store, batch.id)
        self.steps = ChunkSteps(store, self.lane, batch)
        self.paused = store.is_paused(batch)

    def run(self) -> float | None:
        """Run the tick; returns the seconds until the next, None if the batch lane is done with this batch."""
        ends = time.monotonic() + BUSY
        while True:
            divided = self.divide()
            open_ = self.advance_all()
            if not divided or time.monotonic() > ends:
                break
        now = time.time()
        due = [chunk.due - now for chunk in self.journal.all() if chunk.state != chunks.CLOSED]
        batch = self.store.batch(self.batch.id)
        if batch is None or (batch.over and (not due or now - batch.ended > LOOK_AFTER_END)):
            return None
        if divided or (open_ and not due) or batch.in_pilot:
            return NEXT
        return min(max(NEXT, min(due, default=REST)), REST)

    def advance_all(self) -> list[Chunk]:
        """Advance each chunk that is due; returns the chunks that were open before."""
        found = [chunk for chunk in self.journal.all() if chunk.state != chunks.CLOSED]
        for chunk in found:
            if chunk.due <= time.time():
                try:
                    self.advance(chunk)
                except Superseded:
                    log.info("%s was moved on by another worker", chunk.id)
        return found

    def divide(self) -> bool:
        """Divide more of the input among the lanes, if it is time to; returns whether it did."""
        batch = self.batch
        if batch.status != "in_progress" or batch.in_pilot or batch.divided_offset >= batch.bytes:
            return False
        if self.paused:
            return False
        waiting = sum(chunk.state in chunks.UNSENT for chunk in self.journal.all())
        if not self.has_time(batch.targets):
            leave_to_live(self.store, batch)
        elif waiting >= MAX_WAITING:
            return False
        else:
            divide(self.store, self.lane, batch)
        self.batch = self.store.batch(batch.id) or batch
        self.store.ticks.wake(f"feed:{batch.id}")
        return True

    def has_time(self, targets: Sequence[str]) -> bool:
        """Whether a chunk of one of these targets that is sent now has time enough, as far as is known of them."""
        longest = max((each.batch_cancel_time for each in self.settings.providers.values()), default=0.0)
        longest = max([longest, *(self.lane.times.cancelling(target) for target in targets)])
        least = max(self.lane.workflow.batch_min_time, self.lane.times.typical(targets))
        return takeover.has_time(self.batch, longest, least)

    def advance(self, chunk: Chunk) -> None:
        """Make all steps of a chunk that can be made now."""
        while chunk.state != chunks.CLOSED and chunk.due <= time.time():
            before = chunk
            if chunk.holds:
                self.steps.money.renew(chunk, self.steps.queue(chunk))
            chunk = self.next(chunk)
            if chunk == before:
                return

    def next(self, chunk: Chunk) -> Chunk:
        """Make the chunk's next step."""
        match chunk.state:
            case chunks.FETCHING:
                return self.fetch(chunk)
            case chunks.RECORDING:
                return self.record(chunk)
            case chunks.RETURNING:
                return self.give_back(chunk)
        if words := self.ends_early(chunk):
            return self.end_early(chunk, words)
        if self.paused and chunk.state in chunks.UNSENT:
            return self.journal.move(chunk, due=time.time() + WHILE_PAUSED)
        return self.steps.step(chunk)

    def ends_early(self, chunk: Chunk) -> str:
        """Why the chunk must not go on, in words; '' if it may."""
        batch = self.batch
        if batch.status != "in_progress" or chunk.round != batch.round:
            return f"the batch is {batch.shown_status}" if chunk.round == batch.round else "its round is over"
        if chunk.state in chunks.UNSENT:
            return "" if self.has_time([chunk.target]) else "no time is left for the batch lane"
        late = time.time() >= takeover.latest(batch, self.steps.cancel_time(chunk))
        return "its latest moment has come" if late else ""

    def end_early(self, chunk: Chunk, words: str) -> Chunk:
        """Take the chunk's lines over: at once if no provider batch exists, else after it was cancelled."""
        if chunk.state in chunks.UNSENT:
            return self.steps.give_up(chunk, words)
        if not chunk.abandoned and self.waited_enough(chunk):
            log.warning(
                "%s of batch %s does not end; its lines go live, and its money counts as spent", chunk.id, chunk.batch
            )
            chunk = self.journal.move(chunk, abandoned=True, place=0)
        if chunk.abandoned and chunk.left:
            chunk, _ = go_live(self.store, self.batch, chunk, self.live)
        return self.steps.cancel(chunk) if chunk.state == chunks.RUNNING else self.steps.step(chunk)

    def waited_enough(self, chunk: Chunk) -> bool:
        """Whether the lines must go live although the provider batch has not ended."""
        now, batch = time.time(), self.batch
        if batch.status == "in_progress":
            return now >= takeover.last_call(batch)
        return now - (chunk.cancelled_at or chunk.since) > self.steps.cancel_time(chunk)

    def fetch(self, chunk: Chunk) -> Chunk:
        """Copy the results to storage."""
        files = files_of(self.batch)
        try:
            api, key = self.steps.api(chunk)
            found = api.get(key, chunk.provider_batch)
            for index, file_id in enumerate(found.files):
                files.put(chunk.name(f"results{index}"), lambda file_id=file_id: api.download(key, file_id))  # type: ignore[misc]
        except Refused as error:
            # They are gone, though they may have been billed: what it holds counts as spent.
            words = f"its results cannot be fetched: {error}"
            return self.journal.move(chunk, chunks.RETURNING, abandoned=True, place=0, trouble=words)
        except ProviderError as error:
            return self.journal.move(chunk, due=time.time() + max(AGAIN, error.retry_after or 0.0), trouble=str(error))
        return self.journal.move(chunk, chunks.RECORDING, files=len(found.files), file=0, place=0)

    def record(self, chunk: Chunk) -> Chunk:
        """Record results until all are recorded, or too many wait to be written."""
        if chunk.file >= chunk.files:
            return self.journal.move(chunk, chunks.RETURNING, place=0)
        lines = {str(line.number): line for line, _ in read_lines(self.batch, chunk)}
        results = ChunkResults(self.store, self.lane, self.batch, chunk, lines)
        with files_of(self.batch).open(chunk.name(f"results{chunk.file}")) as source:
            source.seek(chunk.place)
            while raw := list(islice(_lines(source), AT_ONCE)):
                if self.store.waiting(self.batch.id) > MAX_UNWRITTEN:
                    return self.journal.move(chunk, due=time.time() + NEXT)
                found = results.record(raw)
                chunk = self.journal.move(
                    chunk,
                    place=chunk.place + sum(map(len, raw)),
                    completed=chunk.completed + found.completed,
                    failed=chunk.failed + found.failed,
                    unreadable=chunk.unreadable + found.unreadable,
                    cost=chunk.cost + found.cost,
                    saved=chunk.saved + found.saved,
                )
        return self.journal.move(chunk, file=chunk.file + 1, place=0)

    def give_back(self, chunk: Chunk) -> Chunk:
        """Let the lines without a result go live; then give back what the chunk holds, and its files."""
        chunk, done = go_live(self.store, self.batch, chunk, self.live)
        if not done:
            return self.journal.move(chunk, due=time.time() + NEXT)
        self.steps.money.leave_queue(chunk, self.steps.queue(chunk))
        if not chunk.abandoned or chunk.files:
            self.steps.money.close(chunk)
        chunk = self.journal.move(chunk, chunks.CLOSED, trouble=chunk.trouble)
        files_of(self.batch).drop(chunk.name(kind) for kind in ("input", "lines", "results0", "results1"))
        if not chunk.abandoned:
            self.steps.delete_input(chunk)
        return chunk


def _lines(source: BinaryIO) -> Iterator[bytes]:
    while raw := source.readline():
        yield raw


def offload(store: Store, settings: Settings, batch: Batch, live: Live) -> float | None:
    """One tick of the batch lane; returns the seconds until the next, None if it is done with the batch."""
    if not batch.has_batch_lane:
        return None
    tick = Offload(store, settings, batch, live)
    try:
        return tick.run()
    finally:
        tick.lane.carriers.close()
