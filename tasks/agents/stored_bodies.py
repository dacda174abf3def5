"""What calls and steps brought, if it is large: a file each in `storage`, beside the journal that names it.

A storage that refuses loses nothing. What cannot be written stays in the journal itself, in Redis, and the job waits:
it makes its next call when the storage takes files again. What cannot be read makes the job wait before its agent's
code runs.
"""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final, TypeVar

from tasks.jobs.job import Job
from tasks.jobs.storage import Files, StorageError, open_files
from workers.pool.threads import to_thread

T = TypeVar("T")

#: Bytes of an answer or a result above which it goes into a file.
LARGE: Final = 64 << 10

#: Seconds that one file may take, and seconds until a job comes back whose storage refused it.
LONGEST, AWAY = 60.0, 15.0


class Lost(Exception):  # noqa: N818 - names what was found
    """A file is gone for good: its folder is there, and the file is not."""


class Blobs:
    """The files of one job's journal. `owner` is the delivery that writes them: no other writes to their names."""

    def __init__(self, storage: str, job: Job, owner: str) -> None:
        self._storage = storage
        self._folder = job.batch or "jobs"
        # Of a job's id, which anyone may have chosen, only a digest becomes part of a path.
        own = hashlib.blake2b(job.id.encode(), digest_size=16).hexdigest()
        self._prefix = f"journal/{job.number}/" if job.batch else f"{own}."
        self._owner = owner[:12]

    async def keep(self, position: str, body: bytes) -> str:
        """Write a file; its name. StorageError if the storage refuses it now."""
        name = f"{self._prefix}{position}.{self._owner}"
        await self._within(name, lambda: self._files().put_bytes(name, body))
        return name

    async def read(self, name: str) -> bytes:
        """What a file holds; StorageError if it cannot be read now, Lost if it never will be."""
        try:
            return await self._within(name, lambda: self._read(name))
        except StorageError as exc:
            # Without its folder a file may only be away, as on a disk that is not mounted.
            if exc.missing and await self._within(name, lambda: self._files().exists("")):
                raise Lost(str(exc)) from exc
            raise

    async def drop(self, *names: str) -> None:
        """Remove files; one that cannot be removed is left."""
        if names:
            await to_thread("files", lambda: self._files().drop(names))

    async def _within(self, name: str, act: Callable[[], T]) -> T:
        """Do something in a thread; a storage that does not answer counts as one that refuses."""
        try:
            async with asyncio.timeout(LONGEST):
                return await to_thread("files", act)
        except TimeoutError:
            raise StorageError(f"{self._folder}/{name}: {self._storage} has not answered for {LONGEST:g} s") from None

    def _read(self, name: str) -> bytes:
        with self._files().open(name) as source:
            return source.read()

    def _files(self) -> Files:
        return open_files(self._storage, self._folder)
