"""Divides the next lines of the input among the lanes, and cuts chunks of those that the batch lane carries.

Lines are grouped by target and url. A stretch of the input ends when a chunk is full. Then its chunks are written to
storage, and the journal takes them over in one step with the place in the input. A worker that is killed before that
leaves files that are never read; the next one cuts the same lines again.
"""

import time
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import IO
from uuid import uuid4

from tasks.answers import wanted
from tasks.batches.batch import Batch
from tasks.batches.batch_lane import MAX_LINES, BatchLane, Fit
from tasks.batches.chunk import Chunk
from tasks.batches.chunk_journal import ChunkJournal
from tasks.batches.chunk_lines import ChunkLine, encode, save
from tasks.batches.feed import lines_from
from tasks.batches.input import Place
from tasks.batches.skipping import not_to_feed
from tasks.batches.store import Store
from tasks.jobs import job as jobs
from tasks.jobs.attempt import row
from tasks.jobs.job import Line
from workers.models.routing import Route
from workers.providers.bodies import choices, output_ceiling
from workers.providers.embeddings import texts
from workers.providers.endpoints import EMBEDDINGS

#: Lines that are read in one stretch.
STRETCH = 200_000


@dataclass(slots=True)
class Growing:
    """A chunk that is being cut."""

    route: Route
    url: str
    numbers: list[int] = field(default_factory=list)
    size: int = 0
    tokens: int = 0
    held: int = 0
    texts: int = 0
    input: IO[bytes] = field(default_factory=TemporaryFile)
    lines: IO[bytes] = field(default_factory=TemporaryFile)

    def takes(self, lane: BatchLane, size: int, fit: Fit) -> bool:
        """Whether another line fits into every limit. At least two chunks fit into the provider's queue."""
        limits, queue = lane.limits_of(self.route), lane.enqueued_tokens(self.route.target)
        return (
            len(self.numbers) < min(limits.requests, MAX_LINES)
            and self.size + size <= limits.bytes
            and (queue is None or self.tokens + fit.estimate.input <= queue // 2)
            and self.held + fit.held <= lane.most_money
            and (limits.embedded is None or self.texts + self.embeds(fit) <= limits.embedded)
        )

    def add(self, encoded: bytes, fit: Fit, line: ChunkLine) -> None:
        """Add a line."""
        self.input.write(encoded)
        self.lines.write(encode(line))
        self.numbers.append(line.number)
        self.size += len(encoded)
        self.tokens += fit.estimate.input
        self.held += fit.held
        self.texts += self.embeds(fit)

    def embeds(self, fit: Fit) -> int:
        """How many texts a line embeds; 0 for a line of another kind."""
        return texts(fit.body) if self.url == EMBEDDINGS else 0


def divide(store: Store, lane: BatchLane, batch: Batch) -> bool:
    """Divide the next stretch of the input. Returns False if another worker has changed the batch."""
    growing: dict[tuple[str, str], Growing] = {}
    skipped = not_to_feed(store, batch)
    offset, number = batch.divided_offset, batch.divided_line
    for line, end, text in lines_from(batch, batch.divided_offset, batch.divided_line):
        if text and line not in skipped and not _take(lane, growing, text, Place(line, offset, end - offset)):
            break
        offset, number = end, line
        if number - batch.divided_line >= STRETCH:
            break
    journal = ChunkJournal(store, batch.id)
    before = len(journal.all())
    try:
        cut = [_write(lane, batch, each, before + index) for index, each in enumerate(growing.values())]
    finally:
        for each in growing.values():
            each.input.close()
            each.lines.close()
    lines = sorted(line for each in growing.values() for line in each.numbers)
    return journal.divide(batch, offset, number, cut, lines)


def leave_to_live(store: Store, batch: Batch) -> bool:
    """Leave the rest of the input to live calls. Returns False if another worker has changed the batch."""
    return ChunkJournal(store, batch.id).divide(batch, batch.bytes, batch.divided_line, (), ())


def _take(lane: BatchLane, growing: dict[tuple[str, str], Growing], text: bytes, place: Place) -> bool:
    """Add a line to the chunk of its target and url, or leave it to live calls. Returns False if the chunk is full."""
    value = jobs.decode(text)
    line = Line(value["custom_id"], value["url"], value["body"])
    fit = lane.fit(line)
    api = lane.api(fit.route.provider) if fit is not None else None
    encoded = api.encode(str(place.number), line.url, fit.body) if fit is not None and api is not None else None
    if fit is None or encoded is None or len(encoded) > (lane.limits_of(fit.route).line_bytes or len(encoded)):
        return True
    key = (fit.route.target, line.url)
    chunk = growing.get(key) or Growing(fit.route, line.url)
    if not chunk.takes(lane, len(encoded), fit):
        return not chunk.numbers  # too large for any chunk: live
    growing[key] = chunk
    own = output_ceiling(line.url, line.body) is not None
    estimate = fit.estimate
    chunk.add(
        encoded,
        fit,
        ChunkLine(
            place.number,
            line.custom_id,
            place.offset,
            place.size,
            fit.held,
            estimate.input,
            estimate.input_ceiling,
            estimate.output_ceiling,
            estimate.media,
            own,
            wanted.of_line(line.url, line.body) is not None,
            choices(line.url, line.body),
        ),
    )
    return True


def _write(lane: BatchLane, batch: Batch, growing: Growing, number: int) -> Chunk:
    """Write a chunk's files, and return its entry for the journal."""
    route, now = growing.route, time.time()
    keys = max(1, lane.settings.providers[route.provider].key_count)
    chunk = Chunk(
        id=f"chunk_{uuid4().hex[:24]}",
        batch=batch.id,
        number=number,
        round=batch.round,
        provider=route.provider,
        model=route.model,
        key=number % keys,
        url=growing.url,
        lines=len(growing.numbers),
        first=growing.numbers[0],
        last=growing.numbers[-1],
        bytes=growing.size,
        tokens=growing.tokens,
        held=growing.held,
        held_row=row(batch.workflow, batch.id, route.target),
        since=now,
        due=now,
    )
    save(batch, chunk, growing.input, growing.lines)
    return chunk
