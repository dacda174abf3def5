"""The order in which a batch's input is stored if its workflow uses prompt caches: lines that share a prefix together.

The lines of a window of the input are put together by prefix, in the order in which the prefixes first appear. The
first line of each prefix goes `AHEAD` lines before the others, so that its answer has filled the provider's cache when
these follow, and none of them has to wait for that (tasks/jobs/warming.py). With two lines ahead:

    a1 b1 a2 a3 c1 b2 b3 c2 c3 …

Windows follow one another, so no line moves further than the size of one. Nothing is added or left out: the stored
input has as many bytes as the file, and the same file gives the same order.
"""

from array import array
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Final

from tasks.batches.input import Place, text_of
from tasks.jobs import job as jobs
from workers.providers.prompt_prefix import prefix_of

#: Bytes of a window, which is in memory while a file is submitted. At least one line.
WINDOW: Final = 64 << 20


#: Lines by which the first of a prefix goes ahead: about as many as may be in flight.
AHEAD: Final = 256


class PrefixOrder:
    """The order of one input."""

    def __init__(self, window: int = WINDOW) -> None:
        self.window = window
        self._numbers = array("I")  # by number in the file, from 1: number in the stored input
        self._begins = array("Q")  # by number in the stored input: its first byte; then the end of all

    def arranged(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The input in this order. May be called again, with the same input."""
        self._numbers, self._begins = array("I", [0]), array("Q", [0, 0])
        between = end = b""
        for window in _windows(chunks, self.window):
            end = b"\n" if window[-1].endswith(b"\n") else b""
            for line in self._ordered(window):
                yield between + line.removesuffix(b"\n")
                between = b"\n"
        yield end

    def _ordered(self, window: list[bytes]) -> Iterator[bytes]:
        before = len(self._numbers)
        order = order_of(_prefix(line) for line in window)
        self._numbers.extend([0] * len(order))
        for number, index in enumerate(order, before):
            self._numbers[before + index] = number
            self._begins.append(self._begins[-1] + len(window[index].removesuffix(b"\n")) + 1)
            yield window[index]

    def number(self, number: int) -> int:
        """The number in the stored input of line `number` of the file."""
        return self._numbers[number]

    def place(self, place: Place) -> Place:
        """The place in the stored input of a line of the file, without its end."""
        number = self._numbers[place.number]
        begins, ends = self._begins[number : number + 2]
        return Place(number, begins, ends - begins - 1)


def order_of(prefixes: Iterable[str], ahead: int = AHEAD) -> list[int]:
    """The order of lines with these prefixes; '' is shared with no other line."""
    groups: dict[str, list[int]] = {}
    for index, prefix in enumerate(prefixes):
        groups.setdefault(prefix or f"line {index}", []).append(index)
    places: list[tuple[int, int]] = []
    for group in groups.values():
        first = len(places) - ahead * (len(group) > 1)
        places += [(len(places) + number if number else first, index) for number, index in enumerate(group)]
    return [index for _, index in sorted(places, key=itemgetter(0))]


def _prefix(line: bytes) -> str:
    text = text_of(line)
    job, _ = jobs.check(jobs.decode(text)) if text else (None, [])
    return prefix_of(job.url, job.body) if job is not None and not job.agent else ""


def _windows(chunks: Iterable[bytes], most: int) -> Iterator[list[bytes]]:
    """The lines with their ends, in lists of `most` bytes."""
    window: list[bytes] = []
    size = 0
    for line in _lines(chunks):
        window.append(line)
        size += len(line)
        if size >= most:
            yield window
            window, size = [], 0
    if window:
        yield window


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []  # a line may be longer than many chunks
    for chunk in chunks:
        begun, *more = chunk.split(b"\n")
        for line in more:
            yield b"".join((*rest, begun, b"\n"))
            rest, begun = [], line
        rest.append(begun)
    if last := b"".join(rest):
        yield last
