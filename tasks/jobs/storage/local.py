"""Files in a folder on this machine: results are written at their offsets in one file."""

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from tasks.jobs.storage.base import Files, StorageError
from workers import private_files


class LocalFiles(Files):
    """Files in a folder on this machine."""

    def exists(self, name: str) -> bool:
        return bool(self.fs.exists(self.path(name)))

    def open(self, name: str) -> BinaryIO:
        target = self.path(name)
        try:
            return Path(target).open("rb")
        except FileNotFoundError as exc:
            raise StorageError(f"{target} is not there", missing=True) from exc
        except OSError as exc:
            raise StorageError(f"{target} cannot be read: {exc.strerror or exc}") from exc

    def put(self, name: str, read: Callable[[], Iterable[bytes]]) -> None:
        target = Path(self.path(name))
        temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
        try:
            private_files.folder(target.parent)
            with private_files.create(temporary) as writing:
                for chunk in read():
                    writing.write(chunk)
                writing.flush()
                os.fsync(writing.fileno())
            temporary.replace(target)
            _sync_folder(target.parent)
        except OSError as exc:
            raise StorageError(f"{target} cannot be written: {exc.strerror or exc}") from exc
        finally:
            with suppress(OSError):
                temporary.unlink()

    def write_at(self, name: str, offset: int, part: int, data: bytes) -> None:
        del part
        if not data:
            return
        target = self.path(name)
        try:
            # The folder came with the input. If it is gone, its disk may come back: nothing is written in its place.
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                length = os.fstat(handle).st_size
                if length < offset:
                    raise StorageError(f"{target} is {length:,} bytes long, and {offset:,} were written: put it back")
                _pwrite_all(handle, data, offset)
                os.fsync(handle)
            finally:
                os.close(handle)
            if not offset:
                _sync_folder(Path(self.folder))
        except FileNotFoundError as exc:
            raise StorageError(f"{target} cannot be written: its folder is not there. Put it back") from exc
        except OSError as exc:
            raise StorageError(f"{target} cannot be written: {exc.strerror or exc}") from exc

    def finish(self, name: str, length: int, parts: int) -> None:
        del parts
        target = self.path(name)
        try:
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                found = os.fstat(handle).st_size
                if found < length:
                    raise StorageError(f"{target} is {found:,} bytes long, and {length:,} were written: put it back")
                if found > length:
                    os.ftruncate(handle, length)
                    os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as exc:
            raise StorageError(f"{target} cannot be finished: {exc.strerror or exc}") from exc

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_parts(self, name: str) -> None:
        """A local file has no parts."""


def _pwrite_all(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written


def _sync_folder(folder: Path) -> None:
    """Sync a folder's names to disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
