"""Where a batch's lines come from: a file, a pipe, stdin, or any URL that fsspec knows.

A URL may contain credentials: a password, or a signed query. They must appear in no message, record or log. So those
use `Source.shown`, and errors go through `Source.error`, which removes credentials from their messages.
"""

import io
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from tasks.jobs.storage import CHUNK, StorageError, file_system
from workers import private_files
from workers.config.credentials import without_password

#: Shorter parts of a URL's query are no secrets; replacing them would garble other words.
_MIN_SECRET = 6

#: HTTP statuses of a file that doesn't exist.
_NOT_THERE = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Source:
    """An input. `place` is the path or URL to open; `given` is what the user wrote."""

    place: str
    given: str = ""

    @property
    def remote(self) -> bool:
        """Whether it is a URL."""
        return "://" in self.place

    @property
    def shown(self) -> str:
        """The input for messages: without credentials, and in characters that can be printed."""
        text = self.given or self.place
        return readable(without_password(text) if "://" in text else text)

    @property
    def name(self) -> str:
        """Its last part, which becomes the name of its batch."""
        return self.shown.rstrip("/").rpartition("/")[2]

    def open(self) -> BinaryIO:
        """Open it for reading; StorageError if opening or a later read fails."""
        try:
            if not self.remote:
                return Path(self.place).open("rb")
            fs, path = file_system(self.place)
            raw = fs.open(path, "rb")
        except IsADirectoryError:
            raise StorageError(f"{self.shown}: is a folder; name a file of JSON lines", missing=True) from None
        except Exception as exc:  # noqa: BLE001 - object stores have errors of their own types; a traceback may contain credentials
            raise self.error(exc) from None
        return cast("BinaryIO", io.BufferedReader(_Remote(self, raw), CHUNK))

    def chunks(self) -> Iterator[bytes]:
        """Its bytes."""
        with self.open() as reading:
            while chunk := reading.read(CHUNK):
                yield chunk

    def check(self) -> None:
        """StorageError if it doesn't exist, or cannot be reached."""
        if self.remote:
            self.open().close()
        elif not Path(self.place).exists():
            raise StorageError(f"{self.shown}: there is no such file", missing=True)

    def error(self, exc: Exception, done: str = "read") -> StorageError:
        """A StorageError for `exc`, with a message that contains no credentials."""
        while isinstance(exc, FileNotFoundError) and isinstance(exc.__cause__, Exception):
            exc = exc.__cause__  # fsspec reports every HTTP error as a file that is not found
        status = getattr(exc, "status", None)
        if isinstance(exc, FileNotFoundError) or status in _NOT_THERE:
            return StorageError(f"{self.shown}: there is no such file", missing=True)
        if isinstance(status, int):
            words = f"HTTP {status} {getattr(exc, 'message', '')}".strip()
        else:
            words = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        return StorageError(f"{self.shown}: cannot be {done}: {self._without_secrets(readable(words))}")

    def _without_secrets(self, words: str) -> str:
        words = words.replace(self.place, self.shown)
        for secret in sorted(self._secrets(), key=len, reverse=True):
            words = words.replace(secret, "***")
        return words

    def _secrets(self) -> set[str]:
        if not self.remote:
            return set()
        try:
            parts = urlsplit(self.place)
        except ValueError:
            return {self.place}
        found = {parts.query, *(value for _, value in parse_qsl(parts.query))}
        found |= {parts.netloc.rpartition("@")[0], parts.password or "", parts.fragment}
        found |= {unquote(each) for each in found}
        return {each for each in found if len(each) >= _MIN_SECRET}


class _Remote(io.RawIOBase):
    """An fsspec file whose errors become StorageErrors; io.BufferedReader wraps it."""

    def __init__(self, source: Source, raw: Any) -> None:
        self.source = source
        self.raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.raw.read(len(buffer))
        except Exception as exc:  # noqa: BLE001 - as above
            raise self.source.error(exc, "read to its end") from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.raw.close()
        super().close()


def readable(text: str) -> str:
    """The text with bytes of a file name that are not UTF-8 replaced."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def source_of(place: "str | Source") -> Source:
    """The source for what the user wrote."""
    return place if isinstance(place, Source) else Source(place)


@contextmanager
def rereadable(given: str, folder: Path) -> Iterator[Source]:
    """The input, for the time of the block. A pipe or stdin ("-") is copied into `folder` first.

    The input is read twice, because all lines are checked before the batch begins.
    """
    if "://" in given or (given != "-" and not _only_once(given)):
        yield Source(given)
        return
    private_files.folder(folder)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="input-") as copy:
        with sys.stdin.buffer if given == "-" else Path(given).open("rb") as reading:
            shutil.copyfileobj(reading, copy, CHUNK)
        copy.flush()
        yield Source(copy.name, "stdin" if given == "-" else given)


def _only_once(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - of a path with any bytes
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode))
