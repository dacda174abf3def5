"""Keeps a bounded part of a batch in its workflow's queue (window.py), so that Redis doesn't grow with the batch.

A tick reads the input from the saved offset on and publishes lines until the window is full. It may run twice, or be
killed before it saves the offset: a line that is published twice runs once, because a job that is leased or done makes
no call. The next round reads the input again and publishes the lines that have not succeeded.

While too many results wait to be written (a full disk, an object store that fails), no more lines are published.

Messages can still be lost: with the disk of Redis, or by another broker. So the queue's messages are compared with the
jobs that are out. If there have been fewer messages for a while, the lines that may be missing are published again.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tasks.batches import takeover, window
from tasks.batches.batch import Batch
from tasks.batches.files import INPUT, files_of
from tasks.batches.input import numbered_lines, text_of
from tasks.batches.line_set import LineSet
from tasks.batches.live import Depth, Live
from tasks.batches.pilot import pilot_map
from tasks.batches.skipping import not_to_end, not_to_feed
from tasks.batches.store import Store
from tasks.jobs import job as jobs
from tasks.jobs import proof, trace_context
from tasks.jobs.storage import StorageError
from workers.transport.queues import queue_name

log = logging.getLogger(__name__)

#: If more results than these wait to be written, no more lines are published.
MAX_UNWRITTEN = 5_000

#: Lines in one step; the offset is saved after each step.
STEP: Final = 500

#: Bytes in one step, about.
STEP_BYTES: Final = 8 << 20

#: Seconds for which messages must be missing before their lines are published again, by default: two visibility
#: timeouts, because the messages of a killed worker come back after one.
LOST_AFTER = 120.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line to publish: its number in the file, and its JSON as the file has it."""

    number: int
    text: bytes


Publish = Callable[[Batch, list[Row]], None]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some lines of the input and their size in bytes; the next lines begin at byte `offset`, after line `line`."""

    rows: list[Row]
    offset: int
    line: int
    size: int


def feed(
    store: Store,
    batch: Batch,
    publish: Publish,
    depth: Depth,
    lost_after: float = LOST_AFTER,
    live: Live | None = None,
) -> None:
    """One tick: publish the lines that fit into the window, and those that were lost."""
    live = live or Live(store, 0.0)
    if batch.to_feed > 0:
        if store.waiting(batch.id) > MAX_UNWRITTEN:
            return
        if not hand_out(store, batch, publish, live):
            return  # another feeder was faster, or the batch was stopped
    find_lost(store, batch, publish, live.missing(batch.workflow, depth), lost_after)


def hand_out(store: Store, batch: Batch, publish: Publish, live: Live) -> bool:
    """Refill the window if enough of it is free; False if the batch was changed since it was read."""
    out, left, each = batch.out, batch.to_feed, batch.each
    leased = len(store.leased(batch.id))
    room = window.room(out=out, leased=leased, left=left, each=each, used=live.used())
    if not room:
        if not out and not leased:
            megabytes = window.WINDOW_BYTES * 2 >> 20
            raise StorageError(
                f"its lines of {each:,} bytes don't fit beside those of other batches ({megabytes} MB of lines may be "
                "in all queues together): it goes on when jobs of those have ended"
            )
        return True
    for piece in pieces(batch, room, not_to_feed(store, batch)):
        if piece.rows:
            publish(batch, piece.rows)
            live.handed_out(batch, len(piece.rows))
        each = piece.size // len(piece.rows) if piece.rows else 0
        if not store.fed(batch, piece.offset, piece.line, len(piece.rows), each):
            return False
        batch = store.batch(batch.id) or batch
    if batch.to_feed > 0 and batch.fed_offset >= batch.bytes:
        there = batch.total - batch.to_feed
        raise StorageError(f"the input has {there:,} of its {batch.total:,} lines: it was changed")
    return True


def pieces(batch: Batch, room: int, skipped: LineSet) -> Iterator[Piece]:
    """The next lines of the input, in steps: up to `room` lines, and about the bytes of `room` average lines.

    Lines in `skipped` are left out.
    """
    rows: list[Row] = []
    size, most = 0, room * batch.each
    offset, line = batch.fed_offset, batch.fed_line
    for line, offset, text in lines_from(batch, batch.fed_offset, batch.fed_line, batch.feed_end):
        if text and line not in skipped:
            rows.append(Row(line, text))
            size += len(text)
        if len(rows) == min(STEP, room) or (rows and size >= min(STEP_BYTES, most)):
            yield Piece(rows, offset, line, size)
            room -= len(rows)
            most -= size
            rows, size = [], 0
            if room <= 0 or most <= 0:
                return
    if offset > batch.fed_offset:
        yield Piece(rows, offset, line, size)


def lines_from(batch: Batch, offset: int, line: int, end: int | None = None) -> Iterator[tuple[int, int, bytes]]:
    """The lines after byte `offset`, the end of line `line`: (number, offset of its end, its JSON; b"" if blank).

    `end`: the byte behind the last line, if not that of the input.
    """
    if end is not None and offset >= end:
        return
    with files_of(batch).open(INPUT) as source:
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
            if end is not None and offset >= end:
                return


def find_lost(store: Store, batch: Batch, publish: Publish, missing: int | None, lost_after: float) -> None:
    """Publish lines again if messages have been missing for `lost_after` seconds."""
    if missing is None:
        return
    if not missing:
        if batch.short_since:
            store.note(batch, short_since=0.0)
        return
    if not batch.short_since:
        store.note(batch, short_since=time.time())
        return
    if time.time() - batch.short_since < lost_after:
        return
    ended, leased = not_to_end(store, batch), store.leased(batch.id)
    pilot = LineSet(pilot_map(batch))
    rows = [
        Row(line, text)
        for line, _, text in lines_from(batch, 0, 0)
        if (line <= batch.fed_line or line in pilot) and text and line not in ended and line not in leased
    ]
    log.warning("batch %s: %s messages are missing; publishing %s lines again", batch.id, missing, len(rows))
    for start in range(0, len(rows), STEP):
        publish(batch, rows[start : start + STEP])
    store.note(batch, short_since=0.0)


def publish(batch: Batch, rows: list[Row]) -> None:
    """Publish lines to their workflow's queue, many in one round trip."""
    from workers.transport.bulk import Message, publish_jobs  # noqa: PLC0415 - reading a batch's input must not configure Celery

    more = {jobs.FLEX_UNTIL: f"{takeover.last_call(batch):.3f}"} if batch.has_flex_lane else {}
    marks = b'"batch":"%s","round":%d,"deadline":%r' % (batch.id.encode(), batch.round, batch.deadline)
    publish_jobs(
        queue_name(batch.workflow),
        [
            Message(
                b'{"job":%s,"line":%d,%s}' % (row.text, row.number, marks),
                f"{{'batch': '{batch.id}', 'line': {row.number}, 'round': {batch.round}}}",
                {proof.HEADER: proof.proof(batch.token, row.number, batch.round), **more},
            )
            for row in rows
        ],
        trace_context.of_batch(batch.trace, batch.total),
    )
