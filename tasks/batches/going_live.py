"""Lines of a chunk that have no result go live: into their workflow's queue, as far as its window has room.

A line is published before it leaves the batch lane. If the worker is killed in between, it is published again; the
second message makes no call while the first one is in flight, or after it has ended.
"""

from itertools import islice
from typing import Final

from tasks.batches import window
from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk
from tasks.batches.chunk_journal import ChunkJournal
from tasks.batches.chunk_lines import ChunkLine, read_lines, texts
from tasks.batches.feed import Row, publish
from tasks.batches.line_set import LineSet
from tasks.batches.live import Live
from tasks.batches.store import Store

#: Lines that go live in one step.
STEP: Final = 500


def go_live(store: Store, batch: Batch, chunk: Chunk, live: Live) -> tuple[Chunk, bool]:
    """Let the chunk's next lines go live. Returns the chunk, and whether all of them have left the batch lane.

    A stopped batch's lines only leave the lane: `close` ends them.
    """
    journal = ChunkJournal(store, batch.id)
    runs = batch.status == "in_progress" and chunk.round == batch.round
    while rows := list(islice(read_lines(batch, chunk, chunk.place), STEP)):
        found = _still_in_lane(store, batch, [line for line, _ in rows]) if chunk.round == batch.round else []
        if runs and found:
            room = _room(store, batch, max(chunk.left, len(found)), live)
            if room <= 0:
                return chunk, False
            found = found[:room]
            rows = [row for row in rows if row[0].number <= found[-1].number]
            publish(batch, [Row(number, text) for number, text in texts(batch, found)])
            live.handed_out(batch, len(found))
        journal.go_live(batch, chunk.round, [line.number for line in found])
        chunk = journal.move(chunk, place=rows[-1][1], returned=chunk.returned + len(found))
        batch = store.batch(batch.id) or batch
        runs = runs and batch.status == "in_progress" and chunk.round == batch.round
    return chunk, True


def _room(store: Store, batch: Batch, left: int, live: Live) -> int:
    """How many of `left` lines the window has room for."""
    leased = len(store.leased(batch.id))
    return window.room(out=batch.out, leased=leased, left=left, each=batch.each, used=live.used())


def _still_in_lane(store: Store, batch: Batch, lines: list[ChunkLine]) -> list[ChunkLine]:
    """Those of the lines that have neither ended nor gone live."""
    away, ended = LineSet(store.offloaded_map(batch)), store.ended_lines(batch.id)
    return [line for line in lines if line.number in away and line.number not in ended]
