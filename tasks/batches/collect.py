"""Writes results to the output files. A crash at any point loses nothing and writes nothing twice.

Each write has three steps:

1. Plan: save in the batch's record, by compare-and-set, at which stream entry the write ends. From then on every
   collector writes the same bytes at the same offset.
2. Write: the bytes are synced to disk.
3. Commit: move the record on, by compare-and-set, and delete the entries from the stream.

After a crash the next tick repeats the write. A suspended collector that wakes up can only write the same bytes again.
"""

import json
import time

from tasks.batches import results
from tasks.batches.batch import Batch, marked
from tasks.batches.files import ERRORS, OUTPUT, files_of, of_round, output_names
from tasks.batches.store import Store
from tasks.jobs.storage import Files, StorageError

#: Results in one write.
STEP_RESULTS = 1_000

#: Bytes in one write, which a collector holds in memory.
STEP_BYTES = 8 << 20

#: Writes in one tick; then other batches get their turn.
STEPS = 20


def collect(store: Store, batch: Batch) -> Batch:
    """One tick: write the results that are there; if all jobs have ended, end the batch."""
    files = files_of(batch)
    output, errors = of_round(OUTPUT, batch.round), of_round(ERRORS, batch.round)
    for _ in range(STEPS):
        write = results.next_write(store, batch, STEP_RESULTS, STEP_BYTES)
        if write is not None:
            files.write_at(output, batch.output_offset, batch.parts, write.output)
            files.write_at(errors, batch.errors_offset, batch.parts, write.errors)
            results.commit(store, batch, write)
        before, batch = batch, store.batch(batch.id) or batch
        if batch.round != before.round or batch.over:
            return batch
        if write is None and batch.written_id == before.written_id:
            if before.plan and batch.plan == before.plan:
                raise StorageError("results that were about to be written are gone from Redis")
            break
    if (pace := marked(batch, time.time())) is not None:
        store.note(batch, pace=pace)
    if batch.left <= 0 and not batch.plan and not store.waiting(batch.id):
        return end(store, batch, files)
    return batch


def end(store: Store, batch: Batch, files: Files, status: str = "", trouble: str = "") -> Batch:
    """Complete the files and give the batch its final status; all its results must be written."""
    store.advance(batch, ["in_progress", "cancelling", "expiring"], "finalizing", finalizing=repr(time.time()))
    files.finish(of_round(OUTPUT, batch.round), batch.output_offset, batch.parts)
    files.finish(of_round(ERRORS, batch.round), batch.errors_offset, batch.parts)
    return store.end(batch, status or batch.stopping or "completed", trouble)


def sample(batch: Batch, count: int) -> list[dict[str, object]]:
    """The first `count` answers of a batch."""
    files = files_of(batch)
    found: list[dict[str, object]] = []
    for name in output_names(batch):
        with files.open(name) as source:
            for raw in source:
                if len(found) == count:
                    return found
                found.append(json.loads(raw))
    return found
