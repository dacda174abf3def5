"""Finds equal lines while an input is read, and writes the file of copies beside the stored input (copies.py).

Two lines are equal if their targets, url and body are: the order of keys doesn't matter, and everything else does, such
as a temperature. The first of them is the original, the others are its copies. Lines of agents are never copies: an
agent may do something else each time.

Digests and copies are in SQLite files on disk, so memory doesn't grow with the input.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

import orjson

from tasks.batches.files import COPIES
from tasks.batches.prefix_order import PrefixOrder
from tasks.jobs.job import Line
from tasks.jobs.storage import CHUNK, Files, StorageError

#: KiB that SQLite keeps in memory of each file.
_CACHE: Final = 16 << 10


class Duplicates:
    """The equal lines of one input. A context manager: its files are temporary."""

    def __init__(self) -> None:
        self.count = 0
        self._folder = TemporaryDirectory(prefix="overnight-copies-")
        self._path = Path(self._folder.name) / COPIES
        with _errors():
            self._db = sqlite3.connect(self._path, isolation_level=None)
            self._db.execute("ATTACH ? AS work", (str(self._path.with_name("digests.sqlite")),))
            for name in ("main", "work"):
                self._db.execute(f"PRAGMA {name}.journal_mode = OFF")
                self._db.execute(f"PRAGMA {name}.synchronous = OFF")
                self._db.execute(f"PRAGMA {name}.cache_size = -{_CACHE}")
            self._db.execute("CREATE TABLE work.digests (digest BLOB PRIMARY KEY, line INTEGER) WITHOUT ROWID")
            self._db.execute(
                "CREATE TABLE copies (original INTEGER, line INTEGER, custom_id TEXT, PRIMARY KEY (original, line)) "
                "WITHOUT ROWID"
            )
            self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        self._folder.cleanup()

    def add(self, number: int, line: Line, targets: Iterable[str]) -> bool:
        """Add line `number`, whose model means `targets`; returns whether it is a copy of an earlier line."""
        digest = b"" if line.agent else digest_of(line, targets)
        if not digest:
            return False
        with _errors():
            if self._db.execute("INSERT OR IGNORE INTO work.digests VALUES (?, ?)", (digest, number)).rowcount:
                return False
            self._db.execute(
                "INSERT INTO copies SELECT line, ?, ? FROM work.digests WHERE digest = ?",
                (number, line.custom_id, digest),
            )
        self.count += 1
        return True

    def save(self, files: Files, order: PrefixOrder | None = None) -> None:
        """Write the file of copies beside the batch's input, unless there are none. `order`: that of the input."""
        if not self.count:
            return
        with _errors():
            if order is not None:
                self._move(order)
            self._db.execute("COMMIT")
            self._db.execute("BEGIN")
        files.put(COPIES, self._chunks)

    def _move(self, order: PrefixOrder) -> None:
        """Give all lines the numbers that they have in the stored input."""
        self._db.create_function("moved", 1, order.number)
        self._db.execute("CREATE TEMP TABLE moved AS SELECT moved(original), moved(line), custom_id FROM copies")
        self._db.execute("DELETE FROM copies")
        self._db.execute("INSERT INTO copies SELECT * FROM moved")

    def _chunks(self) -> Iterator[bytes]:
        with self._path.open("rb") as reading:
            while chunk := reading.read(CHUNK):
                yield chunk


def digest_of(line: Line, targets: Iterable[str]) -> bytes:
    """16 bytes that are the same for equal lines only; none for a body that is nested too deeply to be compared."""
    try:
        body = orjson.dumps({**line.body, "model": sorted(set(targets))}, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return b""
    return hashlib.blake2b(line.url.encode() + b"\n" + body, digest_size=16).digest()


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise StorageError(f"the equal lines of the input cannot be written to a temporary file: {exc}") from exc
