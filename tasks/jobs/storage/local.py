"""Files in a folder on this machine: results are written at their offsets in one file."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from tasks.jobs.storage.base import Files, StorageError, Writing
from workers import private_files


class LocalFiles(Files):
    """Files in a folder on this machine."""

    def exists(self, name: str) -> bool:
        return bool(self.fs.exists(self.path(name)))

    def open(self, name: str, *, ahead: bool = True) -> BinaryIO:
        del ahead
        target = self.path(name)
        try:
            return Path(target).open("rb")
        except FileNotFoundError as exc:
            raise StorageError(f"{target} is not there", missing=True) from exc
        except OSError as exc:
            raise StorageError(f"{target} cannot be read: {exc.strerror or exc}") from exc

    def size(self, name: str) -> int:
        target = self.path(name)
        try:
            return Path(target).stat().st_size
        except FileNotFoundError as exc:
            raise StorageError(f"{target} is not there", missing=True) from exc
        except OSError as exc:
            raise StorageError(f"{target} cannot be read: {exc.strerror or exc}") from exc

    def writing(self, name: str) -> Writing:
        return _LocalWriting(Path(self.path(name)))

    def written(self, name: str, length: int, parts: int, offset: int = 0) -> Iterator[bytes]:
        del parts
        if offset < length:
            yield from self.read(name, length, offset)

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


class _LocalWriting(Writing):
    """A temporary file beside its target, which replaces it at the end."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
        with self._errors():
            private_files.folder(target.parent)
            self.file = private_files.create(self.temporary)

    def write(self, data: bytes) -> None:
        with self._errors():
            self.file.write(data)

    def commit(self) -> None:
        with self._errors(), self.file:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.temporary.replace(self.target)
            _sync_folder(self.target.parent)

    def abort(self) -> None:
        with suppress(OSError):
            self.file.close()
        with suppress(OSError):
            self.temporary.unlink()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise StorageError(f"{self.target} cannot be written: {exc.strerror or exc}") from exc


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
