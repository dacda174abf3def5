"""Files in an object store, which cannot append: each write is an object of its own, and `finish` joins them."""

import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, BinaryIO, Final, TypeVar

from tasks.jobs.storage.base import CHUNK, Files, StorageError, Writing, message_of

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between two tries of a request that an object store refuses. fsspec's library for that store has made tries
#: of its own before each.
RETRY_DELAYS = (0.5, 1.0, 2.0)

#: Bytes of one piece of a multipart upload, which has at most 10,000 pieces.
UPLOAD_PIECE: Final = 16 << 20

#: The same for uploads of the HTTP server's clients, each of which holds a piece in memory: the least that S3 takes.
SMALL_PIECE: Final = 5 << 20

#: Parts that are read at once when they are joined.
PARTS_AT_ONCE: Final = 64


class RemoteFiles(Files):
    """Files in an object store. A request that the store refuses is tried again, after `RETRY_DELAYS`."""

    def exists(self, name: str) -> bool:
        return self._retrying("read", name, lambda: bool(self.fs.exists(self.path(name))))

    def open(self, name: str, *, ahead: bool = True) -> BinaryIO:
        options = {} if ahead else {"cache_type": "none"}
        raw = self._retrying("read", name, lambda: self.fs.open(self.path(name), "rb", **options))
        return io.BufferedReader(_RemoteReader(raw, partial(self._retrying, "read", name)), CHUNK)

    def size(self, name: str) -> int:
        return self._retrying("read", name, lambda: int(self.fs.size(self.path(name))))

    def writing(self, name: str) -> Writing:
        return _RemoteWriting(self, name)

    def put(self, name: str, read: Callable[[], Iterable[bytes]]) -> None:
        def upload() -> None:
            writing = self.fs.open(self.path(name), "wb", block_size=UPLOAD_PIECE)
            try:
                for chunk in read():
                    writing.write(chunk)
            except BaseException:
                _discard(writing)
                raise
            writing.close()

        self._retrying("written", name, upload)

    def written(self, name: str, length: int, parts: int, offset: int = 0) -> Iterator[bytes]:
        at = 0
        sizes = self._retrying("read", name, partial(self._part_sizes, name))
        for part in range(parts):
            size = sizes.get(_part(name, part).rpartition("/")[2], 0)
            start, end = max(0, offset - at), min(size, length - at)
            if start < end:
                yield from self.read(_part(name, part), end, start)
            at += size

    def _part_sizes(self, name: str) -> dict[str, int]:
        """The sizes of a file's parts, by the last part of their paths."""
        try:
            found = self.fs.ls(self.path(f"{name}.parts"), detail=True)
        except FileNotFoundError:
            return {}
        return {str(each["name"]).rpartition("/")[2]: int(each["size"]) for each in found}

    def put_bytes(self, name: str, data: bytes) -> None:
        """Write a small file in one request."""
        self._retrying("written", name, lambda: self.fs.pipe_file(self.path(name), data))

    def write_at(self, name: str, offset: int, part: int, data: bytes) -> None:
        del offset
        if data:
            self.put_bytes(_part(name, part), data)

    def finish(self, name: str, length: int, parts: int) -> None:
        self.put(name, lambda: self._joined(name, length, parts))

    def _joined(self, name: str, length: int, parts: int) -> Iterator[bytes]:
        """The bytes of all parts, in order; StorageError if they don't have `length` bytes together."""
        names = [self.path(_part(name, part)) for part in range(parts)]
        found = 0
        for start in range(0, parts, PARTS_AT_ONCE):
            some = names[start : start + PARTS_AT_ONCE]
            pieces = self._retrying("read", name, partial(self.fs.cat, some, on_error="omit"))
            for each in some:
                # A write without a line for this file has made no part of it.
                if piece := pieces.get(each) or pieces.get(each.lstrip("/")):
                    found += len(piece)
                    yield piece
        if found != length:
            raise StorageError(f"{self.path(name)} has parts of {found:,} bytes, and {length:,} were written")

    def remove(self) -> None:
        def remove_all() -> None:
            with suppress(FileNotFoundError):
                self.fs.rm(self.folder, recursive=True)

        self._retrying("removed", "", remove_all)

    def remove_parts(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self.fs.rm(self.path(f"{name}.parts"), recursive=True)

    def _retrying(self, done: str, name: str, act: Callable[[], T]) -> T:
        """Run `act`, and retry it after errors that may pass. `done`: read, written or removed, for messages."""
        for delay in (*RETRY_DELAYS, None):
            try:
                return act()
            except StorageError:
                raise
            except FileNotFoundError as exc:
                raise StorageError(f"{self.path(name)} is not there", missing=True) from exc
            except PermissionError as exc:
                raise StorageError(f"{self.path(name)} cannot be {done}: {exc.strerror or exc}") from exc
            except Exception as exc:  # each object store's library has its own exception types
                if delay is None:
                    raise StorageError(f"{self.path(name)} cannot be {done}: {message_of(exc)}") from exc
                log.warning("%s cannot be %s just now: %s", self.path(name), done, message_of(exc))
                time.sleep(delay)
        raise AssertionError("unreachable")


def _discard(writing: Any) -> None:
    """Drop an upload."""
    with suppress(Exception):  # the caller raises the reason for giving up
        writing.discard()
    writing.closed = True  # close() would publish the part that was written


class _RemoteWriting(Writing):
    """An upload in pieces. The store's library tries each piece again itself."""

    def __init__(self, files: RemoteFiles, name: str) -> None:
        self.path = files.path(name)
        with self._errors():
            self.file = files.fs.open(self.path, "wb", block_size=SMALL_PIECE)

    def write(self, data: bytes) -> None:
        with self._errors():
            self.file.write(data)

    def commit(self) -> None:
        with self._errors():
            self.file.close()

    def abort(self) -> None:
        _discard(self.file)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as exc:  # as above
            raise StorageError(f"{self.path} cannot be written: {message_of(exc)}") from exc


class _RemoteReader(io.RawIOBase):
    """An fsspec file whose reads are retried; io.BufferedReader wraps it."""

    def __init__(self, raw: Any, retrying: Callable[[Callable[[], int]], int]) -> None:
        self.raw = raw
        self.retrying = retrying

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self.raw.seek(offset, whence))

    def tell(self) -> int:
        return int(self.raw.tell())

    def readinto(self, buffer: Any) -> int:
        return self.retrying(lambda: int(self.raw.readinto(buffer)))

    def close(self) -> None:
        self.raw.close()
        super().close()


def _part(name: str, part: int) -> str:
    return f"{name}.parts/{part:010d}"
