"""Keeps a bounded window of a batch in its workflow's queue (batches/window.py), so that Redis does not grow with it.

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

from tasks.batches import window
from tasks.batches.batch import Batch
from tasks.batches.files import INPUT, files_of
from tasks.batches.input import numbered_lines, text_of
from tasks.batches.line_set import LineSet
from tasks.batches.live import Depth, Live
from tasks.batches.store import Store
from tasks.jobs import job as jobs
from tasks.jobs import proof, trace_context
from tasks.jobs.storage import StorageError
from workers.transport.queues import queue_name

log = logging.getLogger(__name__)

#: Results that may wait to be written before nothing more is handed out.
MOST_WAITING = 5_000

#: Lines handed out in one step, and about how many bytes of them: the place is saved after each.
STEP, STEP_BYTES = 500, 8 << 20

#: Seconds for which messages must be missing before their lines are handed out again, where the caller says nothing
#: else: two visibility timeouts, since one passes before a killed worker's messages come back.
LOST_AFTER = 120.0


@dataclass(frozen=True, slots=True)
class Row:
    """One line to be handed out: its number in the file, and its JSON as it stands there."""

    number: int
    text: bytes


Publish = Callable[[Batch, list[Row]], None]


@dataclass(frozen=True, slots=True)
class Piece:
    """Lines of the input, their bytes, and where the next ones begin."""

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
    """One tick: hand out what fits into the window, and what was lost."""
    live = live or Live(store, 0.0)
    if batch.fed < batch.total:
        if store.waiting(batch.id) > MOST_WAITING:
            return
        if not hand_out(store, batch, publish, live):
            return  # another feeder was faster, or the batch was stopped: it goes on from where it is
    find_lost(store, batch, publish, live.missing(batch.workflow, depth), lost_after)


def hand_out(store: Store, batch: Batch, publish: Publish, live: Live) -> bool:
    """Refill the window if that is worth its while; False if somebody else has moved the batch on."""
    out, left, each = batch.fed - batch.done, batch.total - batch.fed, batch.each
    leased = len(store.leased(batch.id))
    room = window.room(out=out, leased=leased, left=left, each=each, used=live.used())
    if not room:
        if not out and not leased:
            megabytes = window.WINDOW_BYTES * 2 >> 20
            raise StorageError(
                f"its lines of {each:,} bytes don't fit beside what other batches have in their queues ({megabytes} MB "
                "are allowed for all): it goes on when jobs of these have ended"
            )
        return True
    for piece in pieces(batch, room, store.settled_lines(batch)):
        if piece.rows:
            publish(batch, piece.rows)
            live.handed_out(batch, len(piece.rows))
        each = piece.size // len(piece.rows) if piece.rows else 0
        if not store.fed(batch, piece.offset, piece.line, len(piece.rows), each):
            return False
        batch = store.batch(batch.id) or batch
    if batch.fed < batch.total and batch.fed_offset >= batch.bytes:
        raise StorageError(f"the input holds {batch.fed:,} of its {batch.total:,} lines: it was changed")
    return True


def pieces(batch: Batch, room: int, settled: LineSet) -> Iterator[Piece]:
    """The next lines of the input in steps: `room` lines in all, or about as many bytes as these should have.

    Lines in `settled` are passed over.
    """
    rows: list[Row] = []
    size, most = 0, room * batch.each
    offset, line = batch.fed_offset, batch.fed_line
    for line, offset, text in lines_from(batch, batch.fed_offset, batch.fed_line):
        if text and line not in settled:
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


def lines_from(batch: Batch, offset: int, line: int) -> Iterator[tuple[int, int, bytes]]:
    """(number of the line, offset of its end, its JSON or b"" where it is blank) from a place in the input on."""
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


def find_lost(store: Store, batch: Batch, publish: Publish, missing: int | None, lost_after: float) -> None:
    """Hand out again what has been missing from the queue for too long."""
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
    ended, leased = store.ended_lines(batch.id), store.leased(batch.id)
    rows = [
        Row(line, text)
        for line, _, text in lines_from(batch, 0, 0)
        if line <= batch.fed_line and text and line not in ended and line not in leased
    ]
    log.warning("batch %s: %s are missing, %s lines are handed out again", batch.id, missing, len(rows))
    for start in range(0, len(rows), STEP):
        publish(batch, rows[start : start + STEP])
    store.note(batch, short_since=0.0)


def publish(batch: Batch, rows: list[Row]) -> None:
    """Put jobs into their workflow's queue, many to a round trip."""
    from workers.transport.bulk import Message, publish_jobs  # noqa: PLC0415 - reading a batch's input must not configure Celery

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
        trace_context.of_batch(batch.trace, batch.total),
    )
