"""Keeps a bounded window of a batch in its workflow's queue, so that Redis does not grow with the batch.

A tick reads on from the saved offset of the input and publishes until the window is full. It may be lost, doubled
or killed between publishing and saving its offset: lines that are handed out twice are run once, since a job that
is leased or done makes no call.

A batch that was cancelled, or whose deadline has passed, hands out nothing more. Its jobs in flight end by
themselves; for every other line, the error line that says so is written here.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tasks import job as jobs
from tasks.batch import Batch
from tasks.files import INPUT, Files
from tasks.store import Ending, Store
from tasks.submit import numbered_lines
from workers.queues import queue_name

#: At most this many jobs and bytes of a batch wait in its queue or are in flight.
WINDOW_JOBS, WINDOW_BYTES = 2_000, 32 << 20

#: Lines handed out, or closed, in one step: the offset is saved after each.
STEP = 500

#: A window is refilled when this much of it is free, so that a step is worth its while.
REFILL = 0.25

#: The error that a line gets which its batch no longer runs: code and message.
STOPPED = {
    "cancelled": ("batch_cancelled", "the batch was cancelled before this job ran"),
    "expired": ("batch_expired", "the batch's deadline passed before this job ran"),
}

Rows = list[tuple[int, dict[str, Any]]]
Publish = Callable[[Batch, Rows], None]


@dataclass(frozen=True, slots=True)
class Piece:
    """Lines of the input, and where the next ones begin."""

    rows: Rows
    offset: int
    line: int


def feed(store: Store, batch: Batch, publish: Publish) -> None:
    """One tick: hand out what fits into the window, or close what will not run any more."""
    if batch.status == "in_progress" and batch.deadline and time.time() > batch.deadline:
        batch = store.stop(batch.id, "expired") or batch
    if batch.status in {"cancelling", "expiring"}:
        close(store, batch)
        return
    window = min(WINDOW_JOBS, max(1, WINDOW_BYTES * batch.total // max(batch.bytes, 1)))
    room = window - (batch.fed - batch.done)
    if batch.fed >= batch.total or room < window * REFILL:
        return
    for piece in pieces(batch, room):
        publish(batch, piece.rows)
        if not store.fed(batch, piece.offset, piece.line, len(piece.rows)):
            return  # another feeder was faster: it goes on from where it is
        batch = store.batch(batch.id) or batch


def pieces(batch: Batch, room: int) -> Iterator[Piece]:
    """The next lines of the input in steps, `room` lines in all."""
    with Files(batch.storage, batch.id).open(INPUT) as source:
        source.seek(batch.fed_offset)
        offset, line = batch.fed_offset, batch.fed_line
        rows: Rows = []
        for number, raw, _ in numbered_lines(source):
            offset += len(raw)
            line = batch.fed_line + number
            text = raw.removeprefix(b"\xef\xbb\xbf").strip()
            if text:
                rows.append((line, jobs.decode(text)))
                room -= 1
            if len(rows) >= STEP or (not room and rows):
                yield Piece(rows, offset, line)
                rows = []
            if not room:
                return
        if rows:
            yield Piece(rows, offset, line)


def publish(batch: Batch, rows: Rows) -> None:
    """Put jobs into their workflow's queue, as any Celery producer would, many to a round trip."""
    from workers.celery import JOB, app  # noqa: PLC0415 - reading a batch's input must not configure Celery

    queue = queue_name(batch.workflow)
    with app.producer_or_acquire() as producer, producer.batch(len(rows)):
        for number, line in rows:
            app.send_task(
                JOB,
                kwargs={
                    "job": line,
                    "batch": batch.id,
                    "line": number,
                    "round": batch.round,
                    "deadline": batch.deadline,
                },
                queue=queue,
                producer=producer,
                ignore_result=True,
                argsrepr="()",
                kwargsrepr=f"{{'batch': '{batch.id}', 'line': {number}}}",
            )


def close(store: Store, batch: Batch) -> None:
    """End every line that neither has ended nor is in flight, as cancelled or expired."""
    code, message = STOPPED[batch.stopping]
    leased = store.leased(batch.id)
    ended = store.ended_lines(batch.id)
    steps: list[tuple[jobs.Job, Ending]] = []
    with Files(batch.storage, batch.id).open(INPUT) as source:
        for number, raw, _ in numbered_lines(source):
            text = raw.removeprefix(b"\xef\xbb\xbf").strip()
            if not text or number in leased or number in ended:
                continue
            line = jobs.Line(jobs.decode(text)["custom_id"], "", {})
            job = jobs.Job(line, "", batch.workflow, batch.id, number, batch.round)
            steps.append((job, Ending.error(job, code, message)))
            if len(steps) >= STEP:
                store.finish_many(steps)
                steps = []
    store.finish_many(steps)
