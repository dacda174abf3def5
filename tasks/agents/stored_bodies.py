"""Large answers and results of steps: a file each in `storage`, which the journal names.

If the storage fails, nothing is lost. A body that cannot be written stays in the journal, in Redis, and the job waits
with its next call until the storage works again. If a file cannot be read, the job waits before its agent's code runs.
"""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final, TypeVar

from tasks.jobs.job import Job
from tasks.jobs.storage import Files, StorageError, open_files
from workers.pool.threads import to_thread

T = TypeVar("T")

#: A body of more bytes goes into a file.
LARGE: Final = 64 << 10

#: Seconds that reading or writing one file may take.
TIMEOUT = 60.0

#: Seconds after which a job is tried again whose storage failed.
RETRY_AFTER: Final = 15.0


class BodyLost(Exception):  # noqa: N818 - names what happened
    """A file is gone for good: its folder exists, and the file doesn't."""


class StoredBodies:
    """The files of one job's journal. Their names contain `owner`, the delivery that writes them."""

    def __init__(self, storage: str, job: Job, owner: str) -> None:
        self._storage = storage
        self._folder = job.batch or "jobs"
        # A producer chooses a job's id, so the path contains only a digest of it.
        own = hashlib.blake2b(job.id.encode(), digest_size=16).hexdigest()
        self._prefix = f"journal/{job.number}/" if job.batch else f"{own}."
        self._owner = owner[:12]

    async def write(self, position: str, body: bytes) -> str:
        """Write a file and return its name."""
        name = f"{self._prefix}{position}.{self._owner}"
        await self._within(name, lambda: self._files().put_bytes(name, body))
        return name

    async def read(self, name: str) -> bytes:
        """The bytes of a file; StorageError if it cannot be read now, BodyLost if it never can be."""
        try:
            return await self._within(name, lambda: self._read(name))
        except StorageError as exc:
            # If the folder is missing too, a disk may not be mounted.
            if exc.missing and await self._within(name, lambda: self._files().exists("")):
                raise BodyLost(str(exc)) from exc
            raise

    async def drop(self, *names: str) -> None:
        """Remove files; those that cannot be removed are left."""
        if names:
            await to_thread("files", lambda: self._files().drop(names))

    async def _within(self, name: str, act: Callable[[], T]) -> T:
        """Run `act` in a thread; StorageError if it takes longer than `TIMEOUT`."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return await to_thread("files", act)
        except TimeoutError:
            raise StorageError(f"{self._folder}/{name}: {self._storage} has not answered for {TIMEOUT:g} s") from None

    def _read(self, name: str) -> bytes:
        with self._files().open(name) as source:
            return source.read()

    def _files(self) -> Files:
        return open_files(self._storage, self._folder)
