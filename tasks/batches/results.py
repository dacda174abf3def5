"""Results on their way from Redis into a batch's files: the stream, and the collector's place in it.

The place moves in two steps, each by compare-and-set: a *plan* settles up to which entry the next write goes, and a
*commit* says that it is on disk. Between the two, everybody who writes writes the same bytes to the same place.
"""

from dataclasses import dataclass
from typing import Any, cast

from limits.client.scripts import Call, load
from tasks.batches.batch import Batch
from tasks.batches.store import Store

#: Results that are read from Redis at once.
CHUNK = 200

Entry = tuple[bytes, dict[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Write:
    """One write: the results up to stream entry `last`, included, as bytes for each file."""

    plan: str
    last: str
    output: bytes
    errors: bytes


def next_write(store: Store, batch: Batch, entries: int, size: int) -> Write | None:
    """The next write, planned; None if no result waits, or another collector has written them.

    A new plan contains at most `entries` results and `size` bytes, but at least one result. If the batch has a plan, by
    a collector that was killed or is slow, that plan is used.
    """
    if batch.plan:
        return _planned(store, batch, batch.plan)
    found = _waiting(store, batch, entries, size)
    if not found:
        return None
    proposed = f"{found[-1][0].decode()}:{len(found)}"
    counts = store.server.run(
        Call(
            load("tasks/batches/lua/plan.lua"),
            (store.keys.batch(batch.id),),
            (batch.written_id, batch.round, proposed),
            lambda reply: cast("bytes", reply).decode(),
        )
    )
    if counts == proposed:
        return _write(proposed, found)
    return _planned(store, batch, counts) if counts else None


def commit(store: Store, batch: Batch, write: Write) -> None:
    """The write is on disk: move the batch on, unless another collector has done so."""
    store.server.run(
        Call(
            load("tasks/batches/lua/commit.lua"),
            (store.keys.batch(batch.id), store.keys.results(batch.id)),
            (batch.written_id, write.plan, write.last, len(write.output), len(write.errors)),
            bool,
        )
    )


def _waiting(store: Store, batch: Batch, entries: int, size: int) -> list[Entry]:
    """The first results that are not written: at most `entries` and `size` bytes. Reads in chunks to bound memory."""
    found: list[Entry] = []
    total, after = 0, batch.written_id
    while len(found) < entries:
        wanted = min(CHUNK, entries - len(found))
        chunk = _entries(store, batch, after, "+", wanted)
        for entry in chunk:
            total += len(entry[1][b"d"])
            if found and total > size:
                return found
            found.append(entry)
        if len(chunk) < wanted:
            break
        after = chunk[-1][0].decode()
    return found


def _planned(store: Store, batch: Batch, plan: str) -> Write | None:
    """The write of an existing plan; None if its results are gone, because another collector has written them."""
    last, _, count = plan.partition(":")
    found: list[Entry] = []
    after = batch.written_id
    while len(found) < int(count):
        chunk = _entries(store, batch, after, last, min(CHUNK, int(count) - len(found)))
        if not chunk:
            return None
        found += chunk
        after = chunk[-1][0].decode()
    return _write(plan, found) if found[-1][0].decode() == last else None


def _write(plan: str, found: list[Entry]) -> Write:
    output = b"".join(fields[b"d"] + b"\n" for _, fields in found if fields[b"k"] == b"1")
    errors = b"".join(fields[b"d"] + b"\n" for _, fields in found if fields[b"k"] != b"1")
    return Write(plan, found[-1][0].decode(), output, errors)


def _entries(store: Store, batch: Batch, after: str, last: str, count: int) -> list[Entry]:
    client: Any = store.client
    return cast("list[Entry]", client.xrange(store.keys.results(batch.id), f"({after}", last, count=count))
