"""Splits a chunk that is too large for the provider's queue, or for what a budget has left, into two halves."""

from dataclasses import replace
from itertools import islice
from tempfile import TemporaryFile
from uuid import uuid4

from tasks.batches import chunk as chunks
from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk
from tasks.batches.chunk_journal import ChunkJournal
from tasks.batches.chunk_lines import encode, read_lines, save
from tasks.batches.files import files_of


def split(journal: ChunkJournal, batch: Batch, chunk: Chunk) -> Chunk:
    """Split a chunk that nothing is held for; returns it as it is then: closed, with no line of its own."""
    files = files_of(batch)
    number = len(journal.all())
    halves = []
    lines = (line for line, _ in read_lines(batch, chunk))
    with files.open(chunk.name("input")) as source:
        for size in (chunk.lines // 2, chunk.lines - chunk.lines // 2):
            with TemporaryFile() as content, TemporaryFile() as rows:
                half = replace(chunk, id=f"chunk_{uuid4().hex[:24]}", number=number, lines=size, version=0)
                half = replace(half, bytes=0, tokens=0, held=0, first=0, trouble="")
                for line in islice(lines, size):
                    raw = source.readline()
                    content.write(raw)
                    rows.write(encode(line))
                    half = replace(
                        half,
                        first=half.first or line.number,
                        last=line.number,
                        bytes=half.bytes + len(raw),
                        tokens=half.tokens + line.input,
                        held=half.held + line.held,
                    )
                save(batch, half, content, rows)
                halves.append(half)
                number += 1
    closed = journal.move(chunk, chunks.CLOSED, parts=halves, lines=0, trouble="split into two")
    files.drop(chunk.name(kind) for kind in ("input", "lines"))
    return closed
