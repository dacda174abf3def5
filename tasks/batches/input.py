"""Reads a file of jobs line by line and checks each line, before anything is queued.

The file is read once. Memory grows by 8 bytes a line, for the hashes that find duplicate custom_ids. If there are any,
the file is read again to name them.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from tasks.batches.sources import Source, source_of
from tasks.jobs import job as jobs
from tasks.jobs.storage import StorageError
from workers.models.routing import NoRoute

#: Bytes of the longest line: a request has at most 50 MB (LARGEST_REQUEST_MB), and the rest of the line needs little.
MAX_LINE = 52 << 20

#: Problems that are shown; the others are only counted.
SHOWN = 20

#: Problems after which the rest of a file is not checked. A file of other content has one in each line.
MOST_PROBLEMS = 10_000

#: Duplicate custom_ids that are named; no more are looked for.
_MAX_REPEATED = 100_000

_BOM = b"\xef\xbb\xbf"


class InputError(Exception):
    """The input has problems, and nothing was queued. `problems` are the first `SHOWN`; `count` counts all.

    `lines` are the same problems, each with the number of its line; 0 is the whole file.
    """

    def __init__(
        self,
        source: str,
        problems: list[str],
        count: int | None = None,
        lines: Iterable[tuple[int, str]] | None = None,
    ) -> None:
        self.source = source
        self.problems = problems
        self.lines = [(0, problem) for problem in problems] if lines is None else sorted(lines)
        self.count = len(problems) if count is None else count
        super().__init__(source, problems, self.count)

    def __str__(self) -> str:
        more = self.count - len(self.problems)
        rows = [f"{self.source}: {problem}" for problem in self.problems]
        if more > 0:
            rows.append(f"{self.source}: and {more:,} more problem{'s' if more > 1 else ''}")
        return "\n".join(rows)


class Place(NamedTuple):
    """Where a line is in the input: its number, first byte and size."""

    number: int
    offset: int
    size: int


@dataclass(slots=True)
class Checked:
    """What the check of a file found. `lines` is the number of lines that are not blank."""

    lines: int = 0
    bytes: int = 0
    sha256: str = ""
    problems: list[tuple[int, str]] = field(default_factory=list)
    count: int = 0

    def add(self, number: int, problem: str) -> None:
        """Add a problem of line `number`; 0 is the whole file."""
        self.count += 1
        if len(self.problems) < SHOWN:
            self.problems.append((number, problem))

    def messages(self) -> list[str]:
        """The problems, in the order of their lines."""
        return [f"line {number}: {words}" if number else words for number, words in sorted(self.problems)]


def numbered_lines(source: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    """The lines of a file: (number from 1, bytes with the line end, whether it is longer than `MAX_LINE`)."""
    number = 0
    while raw := source.readline(MAX_LINE + 1):
        number += 1
        whole = len(raw) <= MAX_LINE
        yield number, raw, not whole
        while not whole:
            rest = source.readline(1 << 20)
            yield number, rest, True
            whole = not rest or rest.endswith(b"\n")


def text_of(raw: bytes) -> bytes:
    """A line without its end and without a byte order mark, which some editors write; b"" if it is blank."""
    return raw.removeprefix(_BOM).strip()


def check_file(
    place: str | Source,
    check: Callable[[jobs.Line, int], None],
    each: Callable[[jobs.Line, int, Place], None] | None = None,
) -> Checked:
    """Check every line of a file or URL. InputError if it doesn't exist, StorageError if it cannot be read.

    `check` raises NoRoute for a line that no target takes; `each` is called with every other line. Both get the line's
    size in bytes, and `each` its place.
    """
    source = source_of(place)
    found = Checked()
    ids = _Ids()
    digest = hashlib.sha256()
    last_cut = 0
    with _opened(source) as reading:
        for number, raw, cut in numbered_lines(reading):
            digest.update(raw)
            found.bytes += len(raw)
            if cut:
                if number != last_cut:
                    found.add(number, f"longer than {MAX_LINE >> 20} MiB, which no provider takes")
                last_cut = number
            elif text := text_of(raw):
                found.lines += 1
                _check_line(Place(number, found.bytes - len(raw), len(raw)), text, ids, check, found, each)
            if found.count > MOST_PROBLEMS:
                found.problems.insert(
                    0, (0, f"has more than {MOST_PROBLEMS:,} problems; checked up to line {number:,}")
                )
                break
    if found.count <= MOST_PROBLEMS and (repeated := ids.repeated()):
        _name_repeated(source, repeated, found)
    if not found.lines and not found.count:
        found.add(0, "is empty: give it one JSON object a line")
    found.sha256 = digest.hexdigest()
    return found


def _opened(source: Source) -> BinaryIO:
    """Open the input. InputError if it doesn't exist, StorageError if it cannot be read now."""
    try:
        return source.open()
    except StorageError as exc:
        if not exc.missing:
            raise
        raise InputError(source.shown, [str(exc).removeprefix(f"{source.shown}: ")]) from None


def _check_line(
    place: Place,
    text: bytes,
    ids: "_Ids",
    check: Callable[[jobs.Line, int], None],
    found: Checked,
    each: Callable[[jobs.Line, int, Place], None] | None,
) -> None:
    number = place.number
    try:
        value = jobs.decode(text)
    except ValueError as exc:
        found.add(number, str(exc))
        return
    line, problems = jobs.check(value)
    for problem in problems:
        found.add(number, problem)
    custom_id = value.get("custom_id") if isinstance(value, dict) else None
    if isinstance(custom_id, str) and custom_id:
        ids.add(custom_id)
    if line is not None:
        try:
            check(line, len(text))
        except NoRoute as exc:
            found.add(number, str(exc))
        else:
            if each is not None:
                each(line, len(text), place)


class _Ids:
    """Hashes of a file's custom_ids, in parts that are sorted one at a time."""

    PARTS = 256

    def __init__(self) -> None:
        self.parts = [array("Q") for _ in range(self.PARTS)]

    def add(self, custom_id: str) -> None:
        """Add an id."""
        number = hash(custom_id) & 0xFFFF_FFFF_FFFF_FFFF
        self.parts[number % self.PARTS].append(number)

    def repeated(self) -> set[int]:
        """The hashes that occur more than once. Different ids rarely share a hash."""
        found: set[int] = set()
        for part in self.parts:
            before = -1
            for number in sorted(part):
                if number == before:
                    found.add(number)
                before = number
            if len(found) > _MAX_REPEATED:
                break
        return found


def _name_repeated(source: Source, repeated: set[int], found: Checked) -> None:
    """Read the file again and add a problem for each line that repeats the custom_id of an earlier one."""
    first_line: dict[str, int] = {}
    with _opened(source) as reading:
        for number, raw, cut in numbered_lines(reading):
            if cut or not (text := text_of(raw)):
                continue
            try:
                value = jobs.decode(text)
            except ValueError:
                continue
            custom_id = value.get("custom_id") if isinstance(value, dict) else None
            if isinstance(custom_id, str) and custom_id and hash(custom_id) & 0xFFFF_FFFF_FFFF_FFFF in repeated:
                before = first_line.setdefault(custom_id, number)
                if before != number:
                    found.add(number, f'duplicate custom_id "{custom_id[:60]}" (first used on line {before})')
