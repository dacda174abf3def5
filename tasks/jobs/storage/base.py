"""What both kinds of storage do: the methods, their error, and the file system behind a URL."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Final, cast

import fsspec

from workers.config.credentials import without_password

#: Bytes that are read or copied at once.
CHUNK: Final = 1 << 20

#: Bytes that are read or written at once for one client of the HTTP server: what one that stops reading holds.
PIECE: Final = 128 << 10


class StorageError(Exception):
    """The storage failed; the message says which file and why. `missing`: the file doesn't exist."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        self.missing = missing
        super().__init__(message)


class Writing(ABC):
    """A file that is being written: readers see it after `commit`. Every method raises StorageError on failure."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Write the next bytes."""

    @abstractmethod
    def commit(self) -> None:
        """Make the file whole and visible; then it survives a crash."""

    @abstractmethod
    def abort(self) -> None:
        """Drop what was written. Raises nothing."""


class Files(ABC):
    """The files below `folder`. Every method raises StorageError if the storage fails."""

    def __init__(self, fs: Any, folder: str) -> None:
        self.fs = fs
        self.folder = folder

    def path(self, name: str) -> str:
        """The path of a file, as its file system names it."""
        return f"{self.folder}/{name}"

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether the file exists."""

    @abstractmethod
    def open(self, name: str, *, ahead: bool = True) -> BinaryIO:
        """Open a file for reading; StorageError with `missing` if it doesn't exist.

        With `ahead`, an object store is asked for more bytes than the next read wants: tens of MB.
        """

    @abstractmethod
    def size(self, name: str) -> int:
        """A file's length in bytes; StorageError with `missing` if it doesn't exist."""

    @abstractmethod
    def writing(self, name: str) -> Writing:
        """Begin to write a file. `name` may contain folders."""

    def put(self, name: str, read: Callable[[], Iterable[bytes]]) -> None:
        """Write a file, all of it or nothing. `name` may contain folders; each try calls `read` again."""
        writing = self.writing(name)
        try:
            for chunk in read():
                writing.write(chunk)
            writing.commit()
        except BaseException:
            writing.abort()
            raise

    @abstractmethod
    def written(self, name: str, length: int, parts: int, offset: int = 0) -> Iterator[bytes]:
        """A file that `write_at` has written in `parts` writes so far: its bytes from `offset` up to `length`."""

    @abstractmethod
    def write_at(self, name: str, offset: int, part: int, data: bytes) -> None:
        """Write `data`, which is write number `part` to this file and starts at byte `offset`, and sync it to disk."""

    @abstractmethod
    def finish(self, name: str, length: int, parts: int) -> None:
        """Complete a file of `length` bytes, written in `parts` writes: cut it to its length, or join its parts."""

    @abstractmethod
    def remove(self) -> None:
        """Remove the folder with all its files."""

    @abstractmethod
    def remove_parts(self, name: str) -> None:
        """Remove the parts that `finish` has joined."""

    def read(self, name: str, length: int, offset: int = 0) -> Generator[bytes]:
        """A file's bytes from `offset` up to `length`, in pieces."""
        with self.open(name, ahead=False) as reading:
            reading.seek(offset)
            while offset < length and (piece := reading.read(min(PIECE, length - offset))):
                offset += len(piece)
                yield piece

    def put_bytes(self, name: str, data: bytes) -> None:
        """Write a small file, all of it or nothing. `name` may contain folders."""
        self.put(name, lambda: (data,))

    def drop(self, names: Iterable[str]) -> None:
        """Remove files; those that are missing or cannot be removed are skipped."""
        for name in names:
            with suppress(Exception):  # object stores have errors of their own types; `clean` removes what stays
                self.fs.rm_file(self.path(name))


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it; StorageError if fsspec doesn't know the URL."""
    try:
        # Other processes write there too, so a cached listing would hide their files.
        fs, path = cast("tuple[Any, str]", fsspec.core.url_to_fs(url, use_listings_cache=False))
    except (ImportError, ValueError) as exc:
        raise StorageError(f"{without_password(url)}: {exc}") from exc
    return fs, path


def message_of(exc: Exception) -> str:
    """What went wrong, for an error message: object stores raise exceptions of their own types."""
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
