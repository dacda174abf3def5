"""Keeps a bounded window of a batch in its workflow's queue, so that Redis does not grow with the batch.

A tick reads on from the saved place in the input and publishes until the window is full. It may be lost, doubled
or killed between publishing and saving its place: lines that are handed out twice are run once, since a job that
is leased or done makes no call. The next round of a batch reads the input again and hands out what is not done.

While results wait to be written (a full disk, an object store that is away), nothing more is handed out.

A message can be lost all the same, with the server's disk or by a broker's fault. The messages of a queue are
compared with the jobs that are owed to it: where there are fewer for longer than any of them can be on its way,
the lines in question are read from the file and handed out again.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tasks import job as jobs
from tasks import proof, tracing
from tasks.batch import Batch
from tasks.files import INPUT, Files, StorageError
from tasks.input import numbered_lines, text_of
from tasks.store import Bits, Store
from workers.queues import queue_name

log = logging.getLogger(__name__)

#: At most this many jobs of a batch wait in its queue, beside those in flight.
WINDOW_JOBS = 4_000

#: At most this many bytes of input are in the queue or in flight, of all live batches together.
WINDOW_BYTES = 48 << 20

#: Results that may wait to be written before nothing more is handed out.
MOST_WAITING = 5_000

#: Lines handed out in one step: the place is saved after each.
STEP = 500

#: A window is refilled when this much of it is free, so that a step is worth its while.
REFILL = 0.1

#: Seconds for which messages must be missing before their lines are handed out again, where the caller says nothing
#: else: two visibility timeouts, since one passes before a killed worker's messages come back.
LOST_AFTER = 120.0

#: The messages of a workflow that are in its queue, on their way or delayed; None where the broker cannot tell.
Depth = Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class Row:
    """One line to be handed out: its number in the file, and its JSON as it stands there."""

    number: int
    text: bytes


Publish = Callable[[Batch, list[Row]], None]


@dataclass(frozen=True, slots=True)
class Piece:
    """Lines of the input, and where the next ones begin."""

    rows: list[Row]
    offset: int
    line: int


def feed(store: Store, batch: Batch, publish: Publish, depth: Depth, lost_after: float = LOST_AFTER) -> None:
    """One tick: hand out what fits into the window, and what was lost."""
    if store.waiting(batch.id) > MOST_WAITING:
        return
    live = store.live()
    room = window(batch, len(live)) + len(store.leased(batch.id)) - (batch.fed - batch.done)
    if batch.fed < batch.total and room >= min(WINDOW_JOBS * REFILL, batch.total - batch.fed):
        for piece in pieces(batch, room, store.settled_lines(batch)):
            if piece.rows:
                publish(batch, piece.rows)
            if not store.fed(batch, piece.offset, piece.line, len(piece.rows)):
                return  # another feeder was faster, or the batch was stopped: it goes on from where it is
            batch = store.batch(batch.id) or batch
        if batch.fed < batch.total and batch.fed_offset >= batch.bytes:
            raise StorageError(f"the input holds {batch.fed:,} of its {batch.total:,} lines: it was changed")
    find_lost(store, batch, live, publish, depth, lost_after)


def window(batch: Batch, lives: int) -> int:
    """How many of its jobs may wait: by number, and by the bytes of an average line."""
    each = max(batch.bytes // max(batch.total, 1), 1)
    return min(WINDOW_JOBS, max(1, WINDOW_BYTES // max(lives, 1) // each))


def pieces(batch: Batch, room: int, settled: Bits) -> Iterator[Piece]:
    """The next lines of the input in steps, `room` lines in all; those in `settled` are passed over."""
    rows: list[Row] = []
    offset, line = batch.fed_offset, batch.fed_line
    for line, offset, text in lines_from(batch, batch.fed_offset, batch.fed_line):
        if text and line not in settled:
            rows.append(Row(line, text))
        if len(rows) == min(STEP, room):
            yield Piece(rows, offset, line)
            room -= len(rows)
            rows = []
            if not room:
                return
    if offset > batch.fed_offset:
        yield Piece(rows, offset, line)


def lines_from(batch: Batch, offset: int, line: int) -> Iterator[tuple[int, int, bytes]]:
    """(number of the line, offset of its end, its JSON or b"" where it is blank) from a place in the input on."""
    with Files(batch.storage, batch.id).open(INPUT) as source:
        source.seek(offset)
        for number, raw, _ in numbered_lines(source):
            offset += len(raw)
            text = text_of(raw)
            if text:
                try:
                    jobs.decode(text)
                except ValueError as exc:
                    raise StorageError(f"line {line + number} of the input was changed: {exc}") from None
            yield line + number, offset, text


def find_lost(store: Store, batch: Batch, live: list[Batch], publish: Publish, depth: Depth, lost_after: float) -> None:
    """Hand out again what has been missing from the queue for too long."""
    before = depth(batch.workflow)
    if before is None:
        return
    owed = 0
    for other in live:
        if other.workflow == batch.workflow and (now := store.batch(other.id)) is not None:
            owed += max(0, now.fed - now.done)
    # A job that ends in between counts in the first look, one that is published in the second.
    messages = max(before, depth(batch.workflow) or 0)
    if messages >= owed:
        if batch.short_since:
            store.note(batch, short_since=0.0)
        return
    if not batch.short_since:
        store.note(batch, short_since=time.time())
        return
    if time.time() - batch.short_since < lost_after:
        return
    ended, leased = store.ended_lines(batch.id), store.leased(batch.id)
    rows = [
        Row(line, text)
        for line, _, text in lines_from(batch, 0, 0)
        if line <= batch.fed_line and text and line not in ended and line not in leased
    ]
    log.warning("batch %s: %s are missing, %s lines are handed out again", batch.id, owed - messages, len(rows))
    for start in range(0, len(rows), STEP):
        publish(batch, rows[start : start + STEP])
    store.note(batch, short_since=0.0)


def publish(batch: Batch, rows: list[Row]) -> None:
    """Put jobs into their workflow's queue, many to a round trip."""
    from workers.bulk import Message, publish_jobs  # noqa: PLC0415 - reading a batch's input must not configure Celery

    marks = b'"batch":"%s","round":%d,"deadline":%r' % (batch.id.encode(), batch.round, batch.deadline)
    publish_jobs(
        queue_name(batch.workflow),
        [
            Message(
                b'{"job":%s,"line":%d,%s}' % (row.text, row.number, marks),
                f"{{'batch': '{batch.id}', 'line': {row.number}, 'round': {batch.round}}}",
                {proof.HEADER: proof.proof(batch.token, row.number, batch.round)},
            )
            for row in rows
        ],
        tracing.of_batch(batch.trace, batch.total),
    )
