"""The journal of a batch's chunks, in Redis. Each step of a chunk is written here before it is made."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from limits.client.scripts import Call, load
from tasks.batches import chunk as chunks
from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk
from tasks.batches.store import Store


class Superseded(Exception):  # noqa: N818 - names what happened
    """Another worker has moved the chunk on: this one must not touch it any more."""


class ChunkJournal:
    """The chunks of one batch."""

    def __init__(self, store: Store, batch_id: str) -> None:
        self.store = store
        self.key = store.keys.chunks(batch_id)

    def all(self) -> list[Chunk]:
        """Every chunk of the batch, in the order of their numbers."""
        return _in_order(cast("dict[bytes, bytes]", self.store.client.hgetall(self.key)))

    def read(self, chunk: Chunk) -> Chunk:
        """The chunk as it is now."""
        raw = cast("bytes | None", self.store.client.hget(self.key, chunk.id))
        return chunks.decode(raw) if raw is not None else chunk

    def move(self, chunk: Chunk, state: str = "", *, parts: Sequence[Chunk] = (), **changes: Any) -> Chunk:
        """Write the chunk's next step, and return the chunk with it. Raises Superseded if another worker has moved it.

        `parts`: the chunks that it was split into.
        """
        now = time.time()
        if state and state != chunk.state:
            changes = {"since": now, "due": now, "trouble": "", **changes, "state": state}
        moved = replace(chunk, version=chunk.version + 1, **changes)
        script = load("tasks/batches/lua/move_chunk.lua")
        pairs = [part for each in parts for part in (each.id, chunks.encode(each))]
        args = (chunk.id, chunk.version, chunks.encode(moved), *pairs)
        if not self.store.server.run(Call(script, (self.key,), args, bool)):
            raise Superseded(chunk.id)
        return moved

    def divide(self, batch: Batch, offset: int, line: int, cut: Sequence[Chunk], lines: Sequence[int]) -> bool:
        """Save that the input was divided up to byte `offset`, the end of `line`, and the chunks that were cut of it.

        `lines`: those of the chunks, in order. Returns False if another worker has changed the batch.
        """
        first = lines[0] // 8 if lines else 0
        bits = bytearray((lines[-1] // 8 - first + 1) if lines else 0)
        for number in lines:
            bits[number // 8 - first] |= 0x80 >> (number & 7)
        pairs = [part for chunk in cut for part in (chunk.id, chunks.encode(chunk))]
        keys = self.store.keys
        return self.store.server.run(
            Call(
                load("tasks/batches/lua/divide.lua"),
                (keys.batch(batch.id), keys.taken(batch.id), keys.offloaded(batch.id), self.key),
                (batch.divided_offset, batch.round, offset, line, len(lines), bytes(bits), first, *pairs),
                bool,
            )
        )

    def go_live(self, batch: Batch, round_: int, lines: Sequence[int]) -> int:
        """Take lines out of the batch lane; returns how many were in it."""
        if not lines:
            return 0
        keys = (self.store.keys.batch(batch.id), self.store.keys.offloaded(batch.id))
        return self.store.server.run(Call(load("tasks/batches/lua/go_live.lua"), keys, (round_, *lines), int))


def chunks_of(store: Store, batch_ids: Sequence[str]) -> list[list[Chunk]]:
    """The chunks of several batches, read in one round trip."""
    pipeline: Any = store.client.pipeline(transaction=False)
    for batch_id in batch_ids:
        pipeline.hgetall(store.keys.chunks(batch_id))
    return [_in_order(found) for found in pipeline.execute()]


def _in_order(found: Mapping[bytes, bytes]) -> list[Chunk]:
    return sorted((chunks.decode(raw) for raw in found.values()), key=lambda chunk: chunk.number)
