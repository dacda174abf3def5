"""A batch's files in `storage`: its input, and what is written from its results.

    <storage>/<batch>/input.jsonl        the submitted file; for prompt caches in another order (prefix_order.py)
    <storage>/<batch>/copies.sqlite      which lines repeat an earlier one, if `dedupe` has found any (copies.py)
    <storage>/<batch>/pilot.json         which lines are answered first, if the batch has a pilot (pilot.py)
    <storage>/<batch>/output.jsonl       a line for each job that succeeded
    <storage>/<batch>/errors.jsonl       a line for each job that failed
    <storage>/<batch>/output.r1.jsonl    the same for the next round, which `overnight retry` starts
    <storage>/<batch>/errors.r1.jsonl

A round runs the jobs that failed in the one before. So the outputs of all rounds together are a batch's answers, and
the errors of its last round are its failures. A round's files never change after it has ended: a collector of an
earlier round that was suspended and wakes up writes to files that are complete already.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from tasks.batches.batch import Batch
from tasks.jobs.storage import CHUNK, Files, StorageError, file_system, open_files

INPUT = "input.jsonl"
COPIES = "copies.sqlite"
PILOT = "pilot.json"
OUTPUT = "output.jsonl"
ERRORS = "errors.jsonl"


def files_of(batch: Batch) -> Files:
    """The files of a batch."""
    return open_files(batch.storage, batch.id)


def of_round(name: str, number: int) -> str:
    """A file's name in round `number`: output.jsonl in round 0, output.r1.jsonl in round 1."""
    stem, _, suffix = name.partition(".")
    return f"{stem}.r{number}.{suffix}" if number else name


def output_names(batch: Batch) -> list[str]:
    """The files that together hold a batch's answers, in order."""
    return [of_round(OUTPUT, number) for number in range(batch.round + 1)]


def errors_name(batch: Batch) -> str:
    """The file that holds a batch's failures."""
    return of_round(ERRORS, batch.round)


def verified(chunks: Iterable[bytes], sha256: str) -> Iterator[bytes]:
    """The same bytes; StorageError at the end if their digest is not `sha256`, the one that was checked."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise StorageError("the input changed while it was being submitted: submit it when it is complete")


def joined(files: Files, names: Sequence[str]) -> Iterator[bytes]:
    """The bytes of some files, one after the other, in pieces."""
    for name in names:
        with files.open(name) as reading:
            while piece := reading.read(CHUNK):
                yield piece


def so_far(files: Files, names: Sequence[str], length: int, parts: int) -> Iterator[bytes]:
    """The same while the last file is being written: `length` bytes of it, after `parts` writes."""
    yield from joined(files, names[:-1])
    yield from files.written(names[-1], length, parts)


def save(pieces: Iterable[bytes], target: Path) -> int:
    """Write the local file `target`, all of it or nothing; returns its length in bytes."""
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as writing:
            writing.writelines(pieces)
            length = writing.tell()
        temporary.replace(target)
    except OSError as exc:
        raise StorageError(f"{target} cannot be written: {exc.strerror or exc}") from exc
    finally:
        with suppress(OSError):
            temporary.unlink()
    return length


def folders(storage: str) -> dict[str, float]:
    """The folders in `storage` that are named like a batch, and when each one's input was written (epoch seconds)."""
    fs, root = file_system(storage)
    found = {}
    with suppress(FileNotFoundError):
        for path in fs.ls(root, detail=False):
            name = str(path).rstrip("/").rpartition("/")[2]
            if name.startswith("batch_"):
                with suppress(FileNotFoundError):
                    found[name] = float(fs.modified(f"{path}/{INPUT}").timestamp())
    return found
