"""Who waits in this worker for a place at a target whose calls in flight are limited.

Nobody can tell when a call will end, so a time to come back is a guess: too late, and a place stays empty; too early,
and a job has asked for nothing. But a worker knows when its own calls end. So a few jobs stand by, whatever the guess:
one for each of its calls in flight, or as many as have lately ended in two seconds. They go as soon as places come
free, and while enough of them stand here, no more are claimed from the queue. The first of a line looks now and then,
too: calls of other workers end unheard. Half of the worker's slots stay free of those who stand by.
"""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tasks.attempt import Attempt

#: A job stands in line where a place is expected within so many seconds, however many do.
SOON: Final = 3.0

#: How often the first in line asks, and everybody else, in seconds, while no call of this worker ends.
LOOK, LOOK_BEHIND = 0.25, 10.0

#: Who stands by is to last for so many seconds.
SUPPLY: Final = 2.0


class Standing:
    """One job's way through a line: it keeps its place there until it leaves, however often it asks in vain."""

    def __init__(self, places: "Places") -> None:
        self.bucket = ""  # whose line it stands in
        self.called = asyncio.Event()
        self._places = places

    def stand(self, bucket: str, seconds: float) -> bool:
        """Whether to wait in the bucket's line, where a place is expected in so many seconds."""
        if self.bucket != bucket:
            self.leave()
            if not self._places.room(bucket, seconds):
                return False
            self.bucket = bucket
            self._places.join(self)
        return True

    async def turn(self) -> None:
        """Wait until it is worth asking."""
        self.called.clear()
        look = LOOK if self._places.first(self.bucket) is self else LOOK_BEHIND
        try:
            async with asyncio.timeout(look):
                await self.called.wait()
        except TimeoutError:
            self.called.set()

    def leave(self) -> None:
        """Go, with a place or without; the next one may ask."""
        if self.bucket:
            self._places.leave(self)
            self.bucket = ""


class Places:
    """The lines of one worker with so many slots, one for each bucket, and which of the bucket's calls are its own."""

    def __init__(self, slots: Callable[[], int]) -> None:
        self._slots = slots
        self._standing = 0
        self._ends: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=1000))
        self._lines: dict[str, deque[Standing]] = {}
        self._flying: Counter[str] = Counter()
        self._taken: dict[str, tuple[str, ...]] = {}

    @contextmanager
    def line(self) -> Iterator[Standing]:
        """One job's way through the lines, out of which it goes at the end."""
        standing = Standing(self)
        try:
            yield standing
        finally:
            standing.leave()

    def taken(self, attempt: Attempt) -> None:
        """An attempt was admitted."""
        charges = attempt.ask.candidates[attempt.ways.index(attempt.way)].charges
        if limited := tuple(charge.bucket for charge in charges if charge.quota.concurrency):
            self._taken[attempt.ask.id] = limited
            self._flying.update(limited)

    def free(self, reservation: str) -> None:
        """A call has ended, and the server knows it; or it was never made."""
        for bucket in self._taken.pop(reservation, ()):
            self._flying[bucket] -= 1
            if self._flying[bucket] <= 0:
                del self._flying[bucket]
            self._ends[bucket].append(time.monotonic())
            self._call(bucket)

    def room(self, bucket: str, seconds: float) -> bool:
        """Whether one more may stand in line, who expects a place in so many seconds."""
        return self._standing < self._slots() // 2 and (seconds <= SOON or self.wanted(bucket) > 0)

    def wanted(self, bucket: str) -> int:
        """How many more are to stand by."""
        ends, since = self._ends[bucket], time.monotonic() - SUPPLY
        while ends and ends[0] < since:
            ends.popleft()
        supply = min(self._slots() // 2, max(1, self._flying[bucket], len(ends)))
        return supply - len(self._lines.get(bucket, ()))

    def first(self, bucket: str) -> Standing | None:
        """Who is the first in line."""
        line = self._lines.get(bucket)
        return line[0] if line else None

    def join(self, standing: Standing) -> None:
        """Somebody goes to the end of the line."""
        self._lines.setdefault(standing.bucket, deque()).append(standing)
        self._standing += 1

    def leave(self, standing: Standing) -> None:
        """Somebody goes out of the line."""
        line = self._lines[standing.bucket]
        line.remove(standing)
        self._standing -= 1
        if not line:
            del self._lines[standing.bucket]
        self._call(standing.bucket)

    def _call(self, bucket: str) -> None:
        """The first one who is not asking already may ask."""
        for standing in self._lines.get(bucket, ()):
            if not standing.called.is_set():
                standing.called.set()
                return
