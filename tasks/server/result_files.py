"""The output and the errors of a batch as files: `file-…-output` and `file-…-errors`.

They have no records of their own: their ids name the batch, whose record has everything else. Clients can read them
while the batch runs. Lists contain them once it has ended, unless they are empty.
"""

import re
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, Literal

from tasks.batches.acceptance import request_of
from tasks.batches.batch import Batch
from tasks.batches.files import ERRORS, OUTPUT, errors_name, files_of, of_round, output_names
from tasks.batches.store import Store

Kind = Literal["output", "errors"]

KINDS: Final[tuple[Kind, Kind]] = ("output", "errors")

_ID: Final = re.compile(r"file-([0-9a-f]{24})-(output|errors)")

#: Seconds between two checks of a result file's expiry while its batch runs.
_LOOK_AGAIN: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A result file of a batch, which may still be growing."""

    batch: Batch
    kind: Kind

    @property
    def id(self) -> str:
        """Its id."""
        return file_id(self.batch.id, self.kind)

    @property
    def filename(self) -> str:
        """The name that clients see."""
        return f"{self.batch.id}_{self.kind}.jsonl"

    @property
    def complete(self) -> bool:
        """Whether nothing more will be written."""
        return self.batch.over

    @property
    def created(self) -> float:
        """When it was complete."""
        return self.batch.ended or self.batch.created

    @property
    def expires(self) -> float:
        """When it will be removed, 0 for never."""
        request = request_of(self.batch)
        seconds = request.output_expires_after if request else 0
        return self.batch.ended + seconds if seconds and self.complete else 0.0

    @property
    def there(self) -> bool:
        """Whether it still exists: it was not removed and has not expired."""
        removed = self.batch.output_removed if self.kind == "output" else self.batch.errors_removed
        return not removed and not (self.expires and self.expires <= time.time())

    @property
    def listed(self) -> bool:
        """Whether it appears among the client's files."""
        lines = self.batch.completed if self.kind == "output" else self.batch.failed
        return self.complete and self.there and bool(lines)

    def names(self) -> list[str]:
        """Its files in the storage. While the batch runs, the last one is still being written."""
        return output_names(self.batch) if self.kind == "output" else [errors_name(self.batch)]

    def sizes(self) -> list[int]:
        """The bytes of each of its files that can be read now."""
        batch, files = self.batch, files_of(self.batch)
        last = batch.output_offset if self.kind == "output" else batch.errors_offset
        return [*(files.size(name) for name in self.names()[:-1]), last]

    def read(self, sizes: list[int], offset: int) -> Generator[bytes]:
        """The bytes from `offset` on, of files that have these sizes."""
        files = files_of(self.batch)
        for name, size in zip(self.names(), sizes, strict=True):
            if offset < size:
                if self.complete or name != self.names()[-1]:
                    yield from files.read(name, size, offset)
                else:
                    yield from files.written(name, size, self.batch.parts, offset)
            offset = max(0, offset - size)

    def remove(self, store: Store) -> None:
        """Remove its bytes, in all rounds."""
        store.note(self.batch, **{f"{self.kind}_removed": 1})
        name = OUTPUT if self.kind == "output" else ERRORS
        files = files_of(self.batch)
        for number in range(self.batch.round + 1):
            files.remove_parts(of_round(name, number))
            files.drop([of_round(name, number)])


def file_id(batch: str, kind: Kind) -> str:
    """The id of a result file of the batch with this id."""
    return f"file-{batch.removeprefix('batch_')}-{kind}"


def batch_id(file: str) -> tuple[str, Kind] | None:
    """The batch's id and the kind from a file's id; None if that is not a result file's."""
    match = _ID.fullmatch(file)
    if match is None:
        return None
    return f"batch_{match[1]}", "output" if match[2] == "output" else "errors"


def find(store: Store, file: str) -> ResultFile | None:
    """The result file with this id; None if it does not exist."""
    return find_all(store, [file])[0]


def find_all(store: Store, files: list[str]) -> list[ResultFile | None]:
    """The result files with these ids, in one round trip."""
    named = [batch_id(file) for file in files]
    batches = {batch.id: batch for batch in store.records({each[0] for each in named if each})}
    found = []
    for each in named:
        batch = batches.get(each[0]) if each else None
        result = ResultFile(batch, each[1]) if each and batch else None
        found.append(result if result and result.there else None)
    return found


def expire(store: Store, file: str, now: float) -> None:
    """Remove a result file if it has expired; if its batch still runs, look again later."""
    named = batch_id(file)
    batch = store.batch(named[0]) if named else None
    key = store.keys.expiring_files
    if named is None or batch is None:
        store.client.zrem(key, file)
        return
    result = ResultFile(batch, named[1])
    if not result.complete:
        store.client.zadd(key, {file: now + _LOOK_AGAIN})
    elif result.expires and result.expires > now:
        store.client.zadd(key, {file: result.expires})
    else:
        if result.expires:
            result.remove(store)
        store.client.zrem(key, file)
