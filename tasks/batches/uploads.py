"""Files that clients upload, to submit them as batches: their records in Redis, their bytes in `storage`.

    <storage>/files/<file id>/content    the bytes, as they came

An id is put into the set of expiring files before its first byte is written. So `sweep` also removes what a crash has
left behind.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

from tasks.batches.sources import Source
from tasks.batches.store import Store
from tasks.jobs.storage import Files, Writing, open_files
from workers.ids import unique_id

#: Seconds that an upload may take; then its bytes are removed.
LONGEST_UPLOAD: Final = 86_400.0

#: Seconds that the record of a file is kept after it has expired, for `sweep`.
KEEP_EXPIRED: Final = 30 * 86_400

#: Seconds that the lists of files and batches are kept after the last change.
KEEP_LISTS: Final = 400 * 86_400

#: The file's name in its folder.
CONTENT: Final = "content"

#: Expired files that are removed at once.
SWEEP: Final = 100

_ID: Final = re.compile(r"file-[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file. Times are in seconds since the epoch; `expires` is 0 if it never does."""

    id: str
    client: str
    purpose: str
    filename: str
    bytes: int
    created: float
    expires: float


class Uploads:
    """The uploaded files of all clients. Its methods block."""

    def __init__(self, store: Store, storage: str) -> None:
        self.client: Any = store.client
        self.keys = store.keys
        self.storage = storage

    def begin(self) -> tuple[str, Writing]:
        """The id of a new file, and where to write its bytes."""
        file_id = f"file-{unique_id()}"
        pipeline = self.client.pipeline()
        pipeline.zadd(self.keys.expiring_files, {file_id: time.time() + LONGEST_UPLOAD})
        pipeline.expire(self.keys.expiring_files, KEEP_LISTS)
        pipeline.execute()
        return file_id, self._files(file_id).writing(CONTENT)

    def add(self, upload: Upload) -> None:
        """Record a file whose bytes are written."""
        pipeline = self.client.pipeline()
        record = {name: str(value) for name, value in asdict(upload).items()}
        pipeline.hset(self.keys.file(upload.id), mapping=record)
        pipeline.expireat(self.keys.file(upload.id), int(upload.expires + KEEP_EXPIRED))
        self._list(pipeline, upload.client, upload.id, upload.created)
        pipeline.zadd(self.keys.expiring_files, {upload.id: upload.expires})
        pipeline.expire(self.keys.expiring_files, KEEP_LISTS)
        pipeline.execute()

    def announce(self, client: str, ids: Sequence[str], created: float, expire_at: float = 0.0) -> None:
        """Put result files into the client's list. At `expire_at`, if that is set, `sweep` calls back with them."""
        pipeline = self.client.pipeline()
        for file_id in ids:
            self._list(pipeline, client, file_id, created)
            if expire_at:
                pipeline.zadd(self.keys.expiring_files, {file_id: expire_at}, nx=True)
                pipeline.expire(self.keys.expiring_files, KEEP_LISTS)
        pipeline.execute()

    def _list(self, pipeline: Any, client: str, file_id: str, created: float) -> None:
        key = self.keys.client_files(client)
        pipeline.zadd(key, {file_id: int(created * 1_000_000)}, nx=True)
        pipeline.expire(key, KEEP_LISTS)

    def find(self, file_id: str) -> Upload | None:
        """The file's record; None if it doesn't exist or has expired."""
        return self.find_all([file_id])[0]

    def find_all(self, ids: Iterable[str]) -> list[Upload | None]:
        """The records of several files, in one round trip."""
        now = time.time()
        return [each if each is not None and each.expires > now else None for each in self._records(ids)]

    def _records(self, ids: Iterable[str]) -> list[Upload | None]:
        """The records of several files, including expired ones."""
        pipeline = self.client.pipeline(transaction=False)
        for file_id in ids:
            pipeline.hgetall(self.keys.file(file_id))
        return [_read(record) for record in cast("list[dict[bytes, bytes]]", pipeline.execute())]

    def remove(self, upload: Upload) -> None:
        """Remove a file. Its record goes at once; if its bytes cannot be removed now, the next sweep does it."""
        pipeline = self.client.pipeline()
        pipeline.delete(self.keys.file(upload.id))
        pipeline.zrem(self.keys.client_files(upload.client), upload.id)
        pipeline.zadd(self.keys.expiring_files, {upload.id: 0})
        pipeline.execute()
        self._remove_bytes(upload.id)

    def source(self, upload: Upload) -> Source:
        """The file as the input of a batch."""
        return Source(f"{self.storage.rstrip('/')}/files/{upload.id}/{CONTENT}", upload.filename)

    def content(self, upload: Upload) -> Files:
        """The folder of the file; its bytes are in `CONTENT`."""
        return self._files(upload.id)

    def sweep(self, expire_other: Callable[[str, float], None]) -> int:
        """Remove expired and abandoned files; returns how many were due.

        `expire_other` is called with each id that is no upload's, and the time.
        """
        now = time.time()
        names = self.client.zrange(self.keys.expiring_files, 0, now, byscore=True, offset=0, num=SWEEP)
        due = [name.decode() for name in cast("list[bytes]", names)]
        uploads = [file_id for file_id in due if _ID.fullmatch(file_id)]
        for file_id, upload in zip(uploads, self._records(uploads), strict=True):
            if upload is None:
                self._remove_bytes(file_id)
            elif upload.expires <= now:
                self.remove(upload)
        for file_id in sorted(set(due) - set(uploads)):
            expire_other(file_id, now)
        return len(due)

    def _remove_bytes(self, file_id: str) -> None:
        self._files(file_id).remove()
        self.client.zrem(self.keys.expiring_files, file_id)

    def _files(self, file_id: str) -> Files:
        if not _ID.fullmatch(file_id):
            raise ValueError(f"{file_id[:60]!r} is no file's id")
        return open_files(self.storage, f"files/{file_id}")


def _read(record: dict[bytes, bytes]) -> Upload | None:
    if not record:
        return None
    text = {key.decode(): value.decode() for key, value in record.items()}
    return Upload(
        text["id"],
        text["client"],
        text["purpose"],
        text["filename"],
        int(text["bytes"]),
        float(text["created"]),
        float(text["expires"]),
    )
