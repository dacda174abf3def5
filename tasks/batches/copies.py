"""The lines of a batch that repeat an earlier one, as its file of copies has them (duplicates.py).

A copy never becomes a job. When the result of its original is written, each copy gets the same result line with its own
ids, `copy_of`, and no cost.
"""

import shutil
import sqlite3
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from tempfile import NamedTemporaryFile
from typing import Any, Final
from urllib.parse import quote

from limits.client.compact_json import dumps, loads
from tasks.answers.checks import VALID
from tasks.batches.batch import Batch
from tasks.batches.files import COPIES
from tasks.jobs.job import Job, Line
from tasks.jobs.storage import CHUNK, StorageError, open_files

#: Batches whose copies a process keeps open.
_KEPT: Final = 16

#: What stands between the fields of a result line, as `jobs.encode` writes it. Inside a string, quotes are escaped.
_NAME: Final = b',"custom_id":'
_ANSWER: Final = b',"response":'
_REPORT: Final = b',"overnight":'


class Copies:
    """The copies of one batch. May be used by several threads, as SQLite's connections may."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        last = db.execute("SELECT max(line) FROM copies").fetchone()[0] or 0
        bits = bytearray((last >> 3) + 1)
        for (line,) in db.execute("SELECT line FROM copies"):
            bits[line >> 3] |= 0x80 >> (line & 7)
        self.lines = bytes(bits)
        """The bitmap of the lines that are copies (line_set.py)."""

    def count(self, original: int) -> int:
        """How many copies a line has."""
        found: int = self._db.execute("SELECT count(*) FROM copies WHERE original = ?", (original,)).fetchone()[0]
        return found

    def of(self, original: int, first: int, end: int) -> list[tuple[int, str]]:
        """The number and custom_id of a line's copies, from the one with index `first` up to `end`."""
        query = "SELECT line, custom_id FROM copies WHERE original = ? ORDER BY line LIMIT ? OFFSET ?"
        return self._db.execute(query, (original, end - first, first)).fetchall()

    def original_of(self, line: int) -> int | None:
        """The line that this one repeats; None if it is no copy."""
        found = self._db.execute("SELECT original FROM copies WHERE line = ?", (line,)).fetchone()
        return found[0] if found else None


def copies_of(batch: Batch) -> Copies | None:
    """The copies of a batch; None if it has none. StorageError if they cannot be read."""
    return _opened(batch.storage, batch.id, batch.created) if batch.copies else None


@lru_cache(maxsize=_KEPT)
def _opened(storage: str, batch_id: str, created: float) -> Copies:
    """Fetch a batch's file of copies, and keep it open. `created`: the same id may come again after a `clean`."""
    del created
    files = open_files(storage, batch_id)
    with files.open(COPIES) as reading, NamedTemporaryFile(prefix="overnight-copies-") as file:
        shutil.copyfileobj(reading, file, CHUNK)
        file.flush()
        try:
            db = sqlite3.connect(f"file:{quote(file.name)}?mode=ro&immutable=1", uri=True, check_same_thread=False)
            return Copies(db)  # which reads it: from then on it is open, and needs no name
        except sqlite3.Error as exc:
            raise StorageError(f"{files.path(COPIES)} cannot be read, put it back as it was: {exc}") from exc


def copy_maps(batch: Batch) -> tuple[bytes, ...]:
    """The bitmap of a batch's copies, if it has any (line_set.py)."""
    found = copies_of(batch)
    return (found.lines,) if found is not None else ()


@dataclass(frozen=True, slots=True)
class Answered:
    """An original's result line, taken apart so that its copies can be written."""

    batch: Batch
    answer: bytes
    report: dict[str, Any]

    @classmethod
    def of(cls, batch: Batch, raw: bytes) -> "Answered":
        """Take a result line apart. Its answer is copied as it is written, so numbers keep every digit."""
        name, answer, report = raw.index(_NAME), raw.index(_ANSWER), raw.rindex(_REPORT)
        shown = loads(raw[report + len(_REPORT) : -1])
        shown.pop("answers", None)  # what each of several answers has cost
        shown.pop("answers", None)  # what each of them cost
        shown |= {"attempts": 0, "cost_usd": 0.0, "seconds": 0.0, "copy_of": loads(raw[name + len(_NAME) : answer])}
        return cls(batch, raw[answer:report], shown)

    def line(self, number: int, custom_id: str) -> bytes:
        """The result line of a copy."""
        job = Job(Line(custom_id, "", {}), "", self.batch.workflow, self.batch.id, number, self.batch.round)
        ids = b'{"id":' + dumps(job.result_id) + _NAME + dumps(custom_id)
        return ids + self.answer + _REPORT + dumps(self.report) + b"}"

    def counts(self, ok: bool, copies: int) -> Counter[str]:
        """What `copies` copies add to the batch's record. No queue ever holds them: they count as fed at their end."""
        ending = "completed" if ok else "failed"
        found = Counter({ending: copies, f"copies_{ending}": copies, "fed": copies})
        if cut_off := self.report.get("cut_off_by"):
            found["cut_off"] = copies
            if cut_off == "default":
                found["cut_off_default"] = copies
        return found

    def checks(self, ok: bool, copies: int) -> Counter[str]:
        """What `copies` copies add to the batch's counts of checks."""
        result = self.report.get("checks", {}).get("result", VALID.result)
        name = result if ok else f"failed_{result}"
        return Counter() if result == VALID.result else Counter({name: copies})
