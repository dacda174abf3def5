"""A batch's files in `storage`: its input, and what is written from its results.

    <storage>/<batch>/input.jsonl      the submitted file, byte for byte
    <storage>/<batch>/output.jsonl     one line a job that succeeded
    <storage>/<batch>/failures.jsonl   every failure as it came, with its line and round
    <storage>/<batch>/errors.jsonl     one line a job that failed in the end, written at the end

`storage` is any fsspec URL. In a folder, results are written at explicit offsets of one file; elsewhere (object
stores cannot append) each write is an object of its own, and they are joined when the batch ends.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import uuid4

import fsspec

INPUT, OUTPUT, FAILURES, ERRORS = "input.jsonl", "output.jsonl", "failures.jsonl", "errors.jsonl"


class StorageError(Exception):
    """The storage did not do what was asked: says which file, what happened and what to look at."""


class Files:
    """The files of one batch."""

    def __init__(self, storage: str, batch: str) -> None:
        self.fs, root = cast("tuple[Any, str]", fsspec.core.url_to_fs(storage))
        self.folder = f"{root.rstrip('/')}/{batch}"
        self.local = "file" in _protocols(self.fs)

    def path(self, name: str) -> str:
        """Where a file is, as its file system names it."""
        return f"{self.folder}/{name}"

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        return bool(self.fs.exists(self.path(name)))

    def put(self, source: Path, name: str) -> None:
        """Copy a file in, whole or not at all: whoever finds it under its name finds all of it."""
        target = self.path(name)
        temporary = f"{target}.{os.getpid()}.tmp"
        try:
            self.fs.makedirs(self.folder, exist_ok=True)
            if not self.local:
                self.fs.put_file(str(source), target)
                return
            with source.open("rb") as reading, Path(temporary).open("wb") as writing:
                shutil.copyfileobj(reading, writing, 1 << 20)
                writing.flush()
                os.fsync(writing.fileno())
            Path(temporary).replace(target)
        except OSError as exc:
            with suppress(OSError):
                Path(temporary).unlink()
            raise StorageError(f"{target} cannot be written: {exc.strerror or exc}") from exc

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; StorageError where it is not there."""
        try:
            return cast("BinaryIO", self.fs.open(self.path(name), "rb"))
        except OSError as exc:
            raise StorageError(f"{self.path(name)} cannot be read: {exc.strerror or exc}") from exc

    def write_at(self, name: str, offset: int, part: int, data: bytes) -> None:
        """Write `data` where it belongs and make it last; the same call twice leaves the same file."""
        if self.local and offset and not data:
            return
        try:
            if self.local:
                Path(self.folder).mkdir(parents=True, exist_ok=True)
                handle = os.open(self.path(name), os.O_WRONLY | os.O_CREAT, 0o600)
                try:
                    _pwrite_all(handle, data, offset)
                    os.fsync(handle)
                finally:
                    os.close(handle)
            else:
                self.fs.pipe_file(self.path(f"{name}.parts/{part:010d}"), data)
        except OSError as exc:
            raise StorageError(f"{self.path(name)} cannot be written: {exc.strerror or exc}") from exc

    def finish(self, name: str, length: int, parts: int) -> None:
        """Give a file its final length (a folder), or join its parts (an object store)."""
        try:
            if self.local:
                os.truncate(self.path(name), length)
                return
            with self.fs.open(self.path(name), "wb") as whole:
                for part in range(parts):
                    with self.fs.open(self.path(f"{name}.parts/{part:010d}"), "rb") as piece:
                        shutil.copyfileobj(piece, whole, 1 << 20)
        except OSError as exc:
            raise StorageError(f"{self.path(name)} cannot be finished: {exc.strerror or exc}") from exc

    def replace(self, name: str, chunks: Iterator[bytes]) -> None:
        """Write a whole file anew; readers see the old one or the new one."""
        target = self.path(name)
        temporary = f"{target}.{os.getpid()}.tmp"
        try:
            if not self.local:
                with self.fs.open(target, "wb") as writing:
                    for chunk in chunks:
                        writing.write(chunk)
                return
            with Path(temporary).open("wb") as writing:
                for chunk in chunks:
                    writing.write(chunk)
                writing.flush()
                os.fsync(writing.fileno())
            Path(temporary).replace(target)
        except OSError as exc:
            raise StorageError(f"{target} cannot be written: {exc.strerror or exc}") from exc

    def keep(self, name: str, data: bytes) -> None:
        """Write a small file of its own, in a folder of its own where its name has one."""
        try:
            self.fs.makedirs(self.path(name).rpartition("/")[0], exist_ok=True)
        except OSError as exc:
            raise StorageError(f"{self.path(name)} cannot be written: {exc.strerror or exc}") from exc
        self.replace(name, iter((data,)))

    def drop(self, names: Iterable[str]) -> None:
        """Remove files; those that are gone already are no problem, and those that cannot be are left."""
        for name in names:
            with suppress(OSError):
                self.fs.rm_file(self.path(name))

    def fetch(self, name: str, target: Path) -> int:
        """Copy a file out, whole or not at all; returns its length in bytes."""
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with self.open(name) as reading, temporary.open("wb") as writing:
                shutil.copyfileobj(reading, writing, 1 << 20)
            length = temporary.stat().st_size
            temporary.replace(target)
        except OSError as exc:
            with suppress(OSError):
                temporary.unlink()
            raise StorageError(f"{target} cannot be written: {exc.strerror or exc}") from exc
        return length


def probe(storage: str) -> None:
    """Write, read and remove a small file; StorageError says what does not work."""
    name = f".probe-{uuid4().hex}"
    files = Files(storage, "")
    try:
        files.fs.makedirs(files.folder, exist_ok=True)
        files.fs.pipe_file(files.path(name), b"probe")
        read = files.fs.cat_file(files.path(name))
        files.fs.rm_file(files.path(name))
    except OSError as exc:
        raise StorageError(f"{storage} cannot be used: {exc.strerror or exc}") from exc
    if read != b"probe":
        raise StorageError(f"{storage} does not give back what was written")


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _pwrite_all(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written
