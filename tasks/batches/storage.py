"""A batch's files in `storage`: its input, and what is written from its results.

    <storage>/<batch>/input.jsonl        the submitted file, byte for byte
    <storage>/<batch>/output.jsonl       one line a job that succeeded
    <storage>/<batch>/errors.jsonl       one line a job that failed
    <storage>/<batch>/output.r1.jsonl    the same of the next round, that is of `overnight retry`
    <storage>/<batch>/errors.r1.jsonl

A round runs what the one before has failed at, so a batch's answers are the outputs of all its rounds, and its
failures the errors of the last. A round's files never change once it has ended: a writer that was stopped in an
earlier round and wakes up can do no harm.

`storage` is any fsspec URL. In a folder, results are written at explicit offsets of one file; elsewhere (object
stores cannot append) each write is an object of its own under `output.jsonl.parts/`, and they are joined when the
round ends.
"""

import hashlib
import io
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast
from uuid import uuid4

import fsspec

from workers import private_files
from workers.config.credentials import without_password

log = logging.getLogger(__name__)

T = TypeVar("T")

INPUT, OUTPUT, ERRORS = "input.jsonl", "output.jsonl", "errors.jsonl"

#: Seconds between the tries of a request that an object store refused for now. Its library has tried before, and
#: whoever asks will ask again.
PATIENCE = (0.5, 1.0, 2.0)

#: Bytes that are copied at once, and those of the pieces in which a joined object is uploaded (S3 wants 5 MiB).
CHUNK, PIECE = 1 << 20, 16 << 20

#: Parts that are read at once when they are joined.
PARTS = 64


class StorageError(Exception):
    """The storage did not do what was asked: says which file, what happened and what to look at.

    `missing` says that a file is not there, which trying again will not mend.
    """

    def __init__(self, words: str, *, missing: bool = False) -> None:
        self.missing = missing
        super().__init__(words)


def of_round(name: str, number: int) -> str:
    """A file's name in a round, such as output.jsonl in the first and output.r1.jsonl in the next."""
    stem, _, suffix = name.partition(".")
    return f"{stem}.r{number}.{suffix}" if number else name


class Files:
    """The files of one batch."""

    def __init__(self, storage: str, batch: str) -> None:
        self.fs, root = file_system(storage)
        self.folder = f"{root.rstrip('/')}/{batch}"
        self.local = is_local(self.fs)

    def path(self, name: str) -> str:
        """Where a file is, as its file system names it."""
        return f"{self.folder}/{name}"

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        return self._patiently("read", name, lambda: bool(self.fs.exists(self.path(name))))

    def put(self, read: Callable[[], Iterable[bytes]], name: str, sha256: str) -> None:
        """Write a file of these bytes, whole or not at all: whoever finds it under its name finds all of it.

        StorageError where the bytes are not those of `sha256`: somebody is still writing the source.
        """
        if self.local:
            self._put_local(_verified(read(), sha256), name)
        else:
            self._upload(name, lambda: _verified(read(), sha256))

    def _put_local(self, chunks: Iterable[bytes], name: str) -> None:
        target = Path(self.path(name))
        temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
        try:
            private_files.folder(target.parent)
            with private_files.create(temporary) as writing:
                for chunk in chunks:
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

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; StorageError where it is not there."""
        if self.local:
            return self._patiently("read", name, lambda: Path(self.path(name)).open("rb"))
        raw = self._patiently("read", name, lambda: self.fs.open(self.path(name), "rb"))
        return io.BufferedReader(_Remote(raw, partial(self._patiently, "read", name)), CHUNK)

    def write_at(self, name: str, offset: int, part: int, data: bytes) -> None:
        """Write `data` where it belongs and make it last; the same call twice leaves the same file."""
        if not data:
            return
        if not self.local:
            target = self.path(_part(name, part))
            self._patiently("written", name, lambda: self.fs.pipe_file(target, data))
            return
        target = self.path(name)
        try:
            private_files.folder(Path(self.folder))
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
        except OSError as exc:
            raise StorageError(f"{target} cannot be written: {exc.strerror or exc}") from exc

    def finish(self, name: str, length: int, parts: int) -> None:
        """Give a file its final form: its length (a folder), or the join of its parts (an object store)."""
        if not self.local:
            self._upload(name, lambda: self._joined(name, length, parts))
            return
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

    def _joined(self, name: str, length: int, parts: int) -> Iterator[bytes]:
        """The bytes of all parts in order; StorageError where some are missing."""
        names = [self.path(_part(name, part)) for part in range(parts)]
        found = 0
        for start in range(0, parts, PARTS):
            some = names[start : start + PARTS]
            pieces = self._patiently("read", name, partial(self.fs.cat, some, on_error="omit"))
            for each in some:
                # A write without a line for this file has made no part of it.
                if piece := pieces.get(each) or pieces.get(each.lstrip("/")):
                    found += len(piece)
                    yield piece
        if found != length:
            raise StorageError(f"{self.path(name)} has parts of {found:,} bytes, and {length:,} were written")

    def _upload(self, name: str, read: Callable[[], Iterable[bytes]]) -> None:
        """Write an object whole; nobody sees it before it is, and a try that fails begins anew."""

        def upload() -> None:
            writing = self.fs.open(self.path(name), "wb", block_size=PIECE)
            try:
                for chunk in read():
                    writing.write(chunk)
            except BaseException:
                with suppress(Exception):
                    writing.discard()
                writing.closed = True  # closing it would publish what there is of it
                raise
            writing.close()

        self._patiently("written", name, upload)

    def keep(self, name: str, data: bytes) -> None:
        """Write a file of its own, whole or not at all; its name may have folders."""
        if self.local:
            self._put_local((data,), name)
        else:
            self._patiently("written", name, lambda: self.fs.pipe_file(self.path(name), data))

    def drop(self, names: Iterable[str]) -> None:
        """Remove files; those that are gone already are no problem, and those that cannot be are left."""
        for name in names:
            with suppress(Exception):  # object stores have errors of their own types
                self.fs.rm_file(self.path(name))

    def fetch(self, names: Iterable[str], target: Path) -> int:
        """Copy files out, one behind the other, whole or not at all; returns their length in bytes."""
        temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as writing:
                for name in names:
                    with self.open(name) as reading:
                        shutil.copyfileobj(reading, writing, CHUNK)
                length = writing.tell()
            temporary.replace(target)
        except OSError as exc:
            raise StorageError(f"{target} cannot be written: {exc.strerror or exc}") from exc
        finally:
            with suppress(OSError):
                temporary.unlink()
        return length

    def remove(self) -> None:
        """Remove all files of the batch."""
        if self.local:
            shutil.rmtree(self.folder, ignore_errors=True)
            return

        def gone() -> None:
            with suppress(FileNotFoundError):
                self.fs.rm(self.folder, recursive=True)

        self._patiently("removed", "", gone)

    def remove_parts(self, name: str) -> None:
        """Remove the parts of a file that were joined."""
        if not self.local:
            with suppress(FileNotFoundError):
                self.fs.rm(self.path(f"{name}.parts"), recursive=True)

    def _patiently(self, done: str, name: str, act: Callable[[], T]) -> T:
        """Do something on the storage; an object store that is not able to just now is asked again."""
        for pause in (*PATIENCE, None) if not self.local else (None,):
            try:
                return act()
            except StorageError:
                raise
            except FileNotFoundError as exc:
                raise StorageError(f"{self.path(name)} is not there", missing=True) from exc
            except PermissionError as exc:
                raise StorageError(f"{self.path(name)} cannot be {done}: {exc.strerror or exc}") from exc
            except Exception as exc:
                # The errors of object stores are of each library's own types.
                if self.local and not isinstance(exc, OSError):
                    raise
                words = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
                if pause is None:
                    raise StorageError(f"{self.path(name)} cannot be {done}: {words}") from exc
                log.warning("%s cannot be %s just now: %s", self.path(name), done, words)
                time.sleep(pause)
        raise AssertionError("unreachable")


class _Remote(io.RawIOBase):
    """An object that is read patiently, in the shape that a buffered reader wants."""

    def __init__(self, raw: Any, patiently: Callable[[Callable[[], int]], int]) -> None:
        self.raw = raw
        self.patiently = patiently

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self.raw.seek(offset, whence))

    def tell(self) -> int:
        return int(self.raw.tell())

    def readinto(self, buffer: Any) -> int:
        return self.patiently(lambda: int(self.raw.readinto(buffer)))

    def close(self) -> None:
        self.raw.close()
        super().close()


def probe(storage: str) -> None:
    """Write, read and remove a small file; StorageError says what does not work."""
    name = f".probe-{uuid4().hex}"
    try:
        files = Files(storage, "")
        if files.local:  # in an object store it would make a bucket
            private_files.folder(Path(files.folder))
        files.fs.pipe_file(files.path(name), b"probe")
        read = files.fs.cat_file(files.path(name))
        files.fs.rm_file(files.path(name))
    except Exception as exc:
        # The errors of object stores are of each library's own types.
        words = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        raise StorageError(f"{storage} cannot be used: {words}") from exc
    if read != b"probe":
        raise StorageError(f"{storage} does not give back what was written")


def folders(storage: str) -> dict[str, float]:
    """The folders in `storage` that look like a batch's, each with the time when its input was written."""
    fs, root = file_system(storage)
    found = {}
    with suppress(FileNotFoundError):
        for path in fs.ls(root, detail=False):
            name = str(path).rstrip("/").rpartition("/")[2]
            if name.startswith("batch_"):
                with suppress(FileNotFoundError):
                    found[name] = float(fs.modified(f"{path}/{INPUT}").timestamp())
    return found


def is_local(fs: Any) -> bool:
    """Whether this file system is a folder of this machine."""
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol))


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there; StorageError if there is none for it."""
    try:
        # What other processes write must be seen: no listing is remembered.
        fs, path = cast("tuple[Any, str]", fsspec.core.url_to_fs(url, use_listings_cache=False))
    except (ImportError, ValueError) as exc:
        raise StorageError(f"{without_password(url)}: {exc}") from exc
    return fs, path


def _verified(chunks: Iterable[bytes], sha256: str) -> Iterator[bytes]:
    """The same bytes; StorageError at their end where they are others than were looked at."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise StorageError("the input changed while it was being submitted: submit it when it is complete")


def _part(name: str, part: int) -> str:
    return f"{name}.parts/{part:010d}"


def _pwrite_all(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder last, too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
