"""Results become the output files, byte by byte in a place that is settled before it is written.

A write goes in three steps. *Plan*: the stream entry at which it ends is put into the batch's record, by
compare-and-set; from then on everybody who writes it writes the same bytes to the same offset. *Write*: the bytes
reach the disk. *Commit*: the record moves on, by compare-and-set, and the entries leave the stream. Killed anywhere,
the next tick writes the same bytes again; a collector that was stopped in the middle and wakes up can only repeat
what stands there already.
"""

import json
import time

from tasks.batches import results
from tasks.batches.batch import Batch, marked
from tasks.batches.files import ERRORS, OUTPUT, files_of, of_round, output_names
from tasks.batches.store import Store
from tasks.jobs.storage import Files, StorageError

#: Results written in one step, and their bytes: what a collector holds in memory.
STEP_RESULTS, STEP_BYTES = 1_000, 8 << 20

#: Steps of one tick: then another batch has its turn.
STEPS = 20


def collect(store: Store, batch: Batch) -> Batch:
    """One tick: write what has come in, and end the batch when all of it is written."""
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
    """Everything is written: give the files their final form, and the batch its final status."""
    store.advance(batch, ["in_progress", "cancelling", "expiring"], "finalizing")
    files.finish(of_round(OUTPUT, batch.round), batch.output_offset, batch.parts)
    files.finish(of_round(ERRORS, batch.round), batch.errors_offset, batch.parts)
    return store.end(batch, status or batch.stopping or "completed", trouble)


def sample(batch: Batch, count: int) -> list[dict[str, object]]:
    """The first answers of a batch, to show to a person."""
    files = files_of(batch)
    found: list[dict[str, object]] = []
    for name in output_names(batch):
        with files.open(name) as source:
            for raw in source:
                if len(found) == count:
                    return found
                found.append(json.loads(raw))
    return found
