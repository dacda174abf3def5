"""Results become the output files, byte by byte in a place that is settled before it is written.

A write goes in three steps. *Plan*: the stream entry at which it ends is put into the batch's record, by
compare-and-set; from then on everybody who writes it writes the same bytes to the same offset. *Write*: the bytes
reach the disk. *Commit*: the record moves on, by compare-and-set, and the entries leave the stream. Killed anywhere,
the next tick writes the same bytes again; a collector that was stopped in the middle and wakes up can only repeat
what stands there already.
"""

import json
from collections.abc import Iterator

from tasks.batch import Batch
from tasks.files import ERRORS, FAILURES, OUTPUT, Files
from tasks.store import Result, Store

#: Results written in one step, and their bytes: what a collector holds in memory.
STEP_RESULTS, STEP_BYTES = 1_000, 8 << 20


def collect(store: Store, batch: Batch) -> Batch:
    """One tick: write what has come in, and end the batch when all of it is written."""
    files = Files(batch.storage, batch.id)
    while True:
        plan = store.plan(batch, STEP_RESULTS, STEP_BYTES)
        if plan is None:
            break
        results = store.results(batch, plan)
        if results is None:
            # Somebody else has committed this plan since: look again at where the batch is.
            batch = store.batch(batch.id) or batch
            continue
        output = b"".join(result.line + b"\n" for result in results if result.ok)
        failures = b"".join(_failure(result) for result in results if not result.ok)
        files.write_at(OUTPUT, batch.output_offset, batch.parts, output)
        files.write_at(FAILURES, batch.failures_offset, batch.parts, failures)
        batch = store.commit(batch, plan, len(output), len(failures))
    if batch.done >= batch.total and not batch.over:
        return end(store, batch, files)
    return batch


def end(store: Store, batch: Batch, files: Files) -> Batch:
    """Everything is written: give the files their final form, and the batch its final status."""
    store.finalize(batch.id)
    files.write_at(OUTPUT, 0, 0, b"") if not batch.output_offset else None
    files.write_at(FAILURES, 0, 0, b"") if not batch.failures_offset else None
    files.finish(OUTPUT, batch.output_offset, batch.parts)
    files.finish(FAILURES, batch.failures_offset, batch.parts)
    files.replace(ERRORS, _errors(store, batch, files))
    return store.end(batch)


def _failure(result: Result) -> bytes:
    """A row of the failures: which line and round it was, then its error line as it will stand."""
    return b"%d %d %s\n" % (result.number, result.round, result.line)


def _errors(store: Store, batch: Batch, files: Files) -> Iterator[bytes]:
    """The error lines of what is failed now: of each line, the failure of its last round."""
    failed = store.failed_lines(batch.id)
    last: dict[int, int] = {}
    with files.open(FAILURES) as source:
        for raw in source:
            number, round_, _ = raw.split(b" ", 2)
            last[int(number)] = max(last.get(int(number), 0), int(round_))
    with files.open(FAILURES) as source:
        for raw in source:
            number, round_, line = raw.split(b" ", 2)
            if int(number) in failed and last.get(int(number)) == int(round_):
                yield line


def sample(files: Files, count: int) -> list[dict[str, object]]:
    """The first answers of a batch, to show to a person."""
    found: list[dict[str, object]] = []
    with files.open(OUTPUT) as source:
        for raw in source:
            if len(found) == count:
                break
            found.append(json.loads(raw))
    return found
