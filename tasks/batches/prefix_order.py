"""The order in which a batch's input is stored if its workflow uses prompt caches.

A provider forgets a prompt after some minutes. So in each window of the input only as many prefixes take turns as come
round in time, and the next one follows when one of them has ended; prefixes come in the order in which they first
appear. At a high pace that is many of them: many calls of one prefix at a time would go to more of the provider's
machines, each with a cache of its own. The first line of each prefix goes `AHEAD` lines before its turn, so that its
answer has filled the cache when the others follow, and none has to wait for that (tasks/jobs/warming.py). With two
prefixes at once, and two lines ahead:

    a1 b1 a2 b2 a3 c1 b3 c2 c3 …

Windows follow one another, so no line moves further than the size of one. Nothing is added or left out: the stored
input has as many bytes as the file, and the same file gives the same order.
"""

from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import itemgetter
from typing import Final

import orjson

from tasks.batches.input import Place, text_of
from tasks.jobs import job as jobs
from workers.providers.prompt_prefix import prefix_of

#: Bytes of a window, which is in memory while a file is submitted. At least one line.
WINDOW: Final = 64 << 20


#: Lines by which the first of a prefix goes ahead: about as many as may be in flight.
AHEAD: Final = 256


#: Seconds in which all prefixes that take turns come round once: a quarter of the five minutes for which providers
#: keep a prompt, since a batch may be slower than its limits allow.
ROUND = 75.0


#: Prefixes that take turns at most: the pace may be unknown, or lower than the limits allow. They come round in time
#: from seven calls a minute on.
MOST: Final = 32


def at_once(per_second: float, accounts: int) -> int:
    """How many prefixes take turns at this pace of all accounts together; each account has a cache of its own."""
    return max(1, int(min(per_second * ROUND / accounts, MOST)))


class PrefixOrder:
    """The order of one input, with `at_once` prefixes in turns."""

    def __init__(self, at_once: int, window: int = WINDOW) -> None:
        self.at_once = at_once
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
        order = order_of(map(_prefix, window), self.at_once)
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


def order_of(prefixes: Iterable[str], at_once: int, ahead: int = AHEAD) -> list[int]:
    """The order of lines with these prefixes; '' is shared with no other line."""
    groups: dict[str, list[int]] = {}
    for index, prefix in enumerate(prefixes):
        groups.setdefault(prefix or f"line {index}", []).append(index)
    first = {group[0] for group in groups.values() if len(group) > 1}
    places = [
        (place - ahead if index in first else place, index)
        for place, index in enumerate(_in_turns(groups.values(), at_once))
    ]
    return [index for _, index in sorted(places, key=itemgetter(0))]


def _in_turns(groups: Iterable[list[int]], at_once: int) -> Iterator[int]:
    """One of each of the first groups, again and again; the next group takes the place of one that has ended."""
    waiting = map(iter, groups)
    active = deque(islice(waiting, at_once))
    while active:
        group = active.popleft()
        if (index := next(group, None)) is not None:
            yield index
            active.append(group)
        elif (more := next(waiting, None)) is not None:
            active.appendleft(more)


def _prefix(line: bytes) -> str:
    """The prefix of a line that has been checked; '' if it has none, or was changed since."""
    try:
        value = orjson.loads(text_of(line))
    except ValueError:
        return ""
    match value:
        case {"url": str(url), "body": dict(body)} if not url.startswith(jobs.AGENTS):
            return prefix_of(url, body)
    return ""


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
