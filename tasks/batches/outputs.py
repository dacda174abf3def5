"""Where a batch's answers and failures are copied to: the user's files, devices or pipes, or "-" for stdout."""

import stat
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import orjson

from tasks.batches.batch import Batch
from tasks.batches.files import ERRORS, errors_name, files_of, joined, of_round, output_names, save, so_far
from tasks.batches.input import InputError
from tasks.jobs.storage import Files, StorageError

STDOUT = "-"

#: Bytes of a file's first line that are read to see whose file it is.
_FIRST_LINE = 1 << 16


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where answers and failures go. `failures` is None if they go nowhere; `named`: the user has named that file."""

    answers: Path
    failures: Path | None
    named: bool = True

    @classmethod
    def beside(cls, answers: Path, failures: Path | None) -> "Outputs":
        """Outputs for the user's options. By default failures go to a file beside that of the answers."""
        if failures is not None:
            return cls(answers, failures)
        if _is_stream(answers):
            return cls(answers, None, named=False)
        return cls(answers, answers.with_name(f"{answers.stem}.errors{answers.suffix}"), named=False)

    def check(self, source: str = "") -> None:
        """InputError if an output would replace the input, or a file that is not an error file of Overnight's."""
        problems = []
        for option, path in (("--output", self.answers), ("--errors", self.failures)):
            if path is None:
                continue
            if path.is_dir():
                problems.append(f"{option} {path} is a folder: name a file")
            elif source and "://" not in source and not _is_stream(path) and _same(path, Path(source)):
                problems.append(f"{option} {path} is the input: name another file")
        if self.failures is not None and not problems:
            if _same(self.answers, self.failures) and not (_is_device(self.answers) and str(self.answers) != STDOUT):
                problems.append(f"--output and --errors are both {self.answers}: name two files")
            elif not self.named and _is_file(self.failures) and not _is_errors(self.failures):
                problems.append(
                    f"failures would replace {self.failures}, which is no error file of Overnight's: "
                    "name another file with --errors"
                )
        if problems:
            raise InputError("overnight", problems)

    def fetch(self, batch: Batch) -> None:
        """Copy the batch's files out. If it has no failures, no error file is written, and an older one is removed."""
        files = files_of(batch)
        _copy(joined(files, output_names(batch)), self.answers)
        if self.failures is None:
            return
        if batch.failed:
            _copy(joined(files, [errors_name(batch)]), self.failures)
        elif _is_file(self.failures) and _of_batch(self.failures, files, batch):
            self.failures.unlink(missing_ok=True)

    def fetch_so_far(self, batch: Batch) -> None:
        """Copy what a running batch has written until now: whole lines, in the order in which its jobs ended."""
        files = files_of(batch)
        _copy(so_far(files, output_names(batch), batch.output_offset, batch.parts), self.answers)
        if self.failures is not None:
            _copy(so_far(files, [errors_name(batch)], batch.errors_offset, batch.parts), self.failures)


def _copy(pieces: Iterable[bytes], target: Path) -> None:
    """Write into a file all at once or not at all, into anything else directly."""
    if not _is_stream(target):
        save(pieces, target.resolve())  # write the file that a link points to, and keep the link
        return
    try:
        with nullcontext(sys.stdout.buffer) if str(target) == STDOUT else target.open("wb") as writing:
            writing.writelines(pieces)
            writing.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise StorageError(f"{target} cannot be written: {exc.strerror or exc}") from exc


def _is_stream(path: Path) -> bool:
    """Whether it is stdout, a device or a pipe, which cannot be replaced."""
    return str(path) == STDOUT or _is_device(path)


def _is_device(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    return str(path) != STDOUT and path.is_file()


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one.resolve() == other.resolve()


def _first_line(path: Path) -> bytes:
    with path.open("rb") as reading:
        return reading.readline(_FIRST_LINE)


def _is_errors(path: Path) -> bool:
    """Whether a file is empty or contains result lines."""
    try:
        line = _first_line(path)
        return not line or str(orjson.loads(line)["id"]).startswith("batch_req_")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _of_batch(path: Path, files: Files, batch: Batch) -> bool:
    """Whether a file was fetched from an earlier round of this batch."""
    try:
        line = _first_line(path)
    except OSError:
        return False
    for number in range(batch.round):
        name = of_round(ERRORS, number)
        if files.exists(name):
            with files.open(name) as reading:
                if reading.readline(_FIRST_LINE) == line:
                    return bool(line)
    return False
