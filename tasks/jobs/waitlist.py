"""Who waits in this worker for room at a target: for a place among its calls in flight, or for its rate.

Nobody can tell when a call will end, or how soon a rate that is still being learned will let the next one out, so a
time to come back is a guess: too late, and quota stays unused; too early, and a job has asked for nothing. So a few
jobs stand by, whatever the guess: one for each of this worker's calls in flight, or as many as have lately gone in two
seconds. The first of a line asks for all: when a call of this worker ends, when the admission said that the next one
could go, and now and then, since calls of other workers end unheard. For a rate it takes as many along as went the last
time: what is asked at once goes as one. The last of them to go calls the next. While enough of them stand here, no more
are claimed from the queue. Half of the worker's slots stay free of those who stand by, and of those who are admitted
but for later. Urgent work has a line of its own.
"""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Final, Self

from limits.reservation import Denied
from tasks.jobs.attempt import Attempt
from workers.transport.gates import LONG

#: Denials for which jobs stand in line: the first of them can tell for all.
LINED: Final = frozenset({"concurrency", "rpm", "tpm", "itpm", "otpm", "pace", "pause"})

#: Nobody stands for a rate where the first could only go after `LONG`: all go back into their queue, whose gate is
#: shut. Nor for a pause that lasts longer than an admission may lie ahead, and so many seconds.
BRIEF: Final = 1.0

#: A call that is admitted so many seconds before it may go out waits for a limit, as those do who stand in line.
AHEAD: Final = 1.0

#: A job stands in line where its turn is expected within so many seconds, however many do.
SOON: Final = 3.0

#: How often the first in line asks, in seconds, while no call of this worker ends; and how often everybody else looks
#: whether it still has to stand there, or asks if it knows another way.
LOOK, LOOK_BEHIND = 0.25, 10.0

#: What the name of a bucket's line for urgent work begins with.
URGENT: Final = "urgent "

#: Who stands by is to last for so many seconds.
SUPPLY: Final = 2.0


#: The shortest time after which the first of a line asks again, in seconds.
LEAST: Final = 0.02


def _each(attempt: Attempt, bucket: str) -> float:
    """For how many seconds such a call takes up a bucket's rate."""
    charges = (charge for candidate in attempt.ask.candidates for charge in candidate.charges)
    return next((charge.quota.seconds(charge.costs) for charge in charges if charge.bucket == bucket), 0.0)


class Waiter:
    """One job's way through a line: it keeps its place there until it leaves, however often it asks in vain."""

    def __init__(self, places: "Waitlists") -> None:
        self.name = ""  # of the line in which it stands
        self.called = False
        self._looks_up = False
        self._stirred = asyncio.Event()
        self._routes = 1
        self._look = LOOK
        self._places = places

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def behind(self, attempt: Attempt) -> bool:
        """Whether to wait behind those who stand there already, unasked: where each of its ways has a line."""
        if not (bucket := self._places.line_before(attempt)):
            return False
        line = line_of(attempt, bucket)
        return self._stand(attempt, line, self._places.length(line) * _each(attempt, bucket))

    def stand(self, attempt: Attempt, denied: Denied) -> bool:
        """Whether to wait in the line of what the attempt was denied for."""
        bucket, seconds, opens = denied.subject, denied.retry_in, denied.opens_in
        line = line_of(attempt, bucket)
        if denied.reason not in LINED or seconds is None or opens is None:
            return False
        if denied.reason == "concurrency":
            self._look = LOOK
        elif opens > (BRIEF if denied.reason == "pause" else LONG):
            return False
        else:
            self._look = max(opens, LEAST)
            seconds = opens + self._places.length(line) * _each(attempt, bucket)
            self._places.refused(line)
        return self._stand(attempt, line, seconds)

    def _stand(self, attempt: Attempt, line: str, seconds: float) -> bool:
        self._routes = len(attempt.routes)
        if self.name != line:
            self.leave()
            if not self._places.room(line, seconds):
                return False
            self.name = line
            self._places.join(self)
        return True

    async def turn(self) -> bool:
        """Wait for a while, or until it is worth asking; whether it is."""
        self.called = False
        while True:
            self._stirred.clear()
            first = self._places.first(self.name) is self
            try:
                async with asyncio.timeout(self._look if first else LOOK_BEHIND):
                    await self._stirred.wait()
            except TimeoutError:
                if not first and self._routes == 1:
                    return False  # the first one asks for it
                self.called = True
                if first:
                    self._places.take_along(self.name)
            if self.called:
                return True
            if self._looks_up:
                self._looks_up = False
                return False

    def look_up(self) -> None:
        """Something has happened that may end its wait; it keeps its place."""
        self._looks_up = True
        self._stirred.set()

    def call(self) -> None:
        """It may ask."""
        self.called = True
        self._stirred.set()

    def promote(self) -> None:
        """It is the first in line now, and looks by itself."""
        self._stirred.set()

    def leave(self) -> None:
        """Go, with a place or without; the next one may ask."""
        if self.name:
            self._places.leave(self)
            self.name = ""


def line_of(attempt: Attempt, bucket: str) -> str:
    """The line for a bucket in which such work stands."""
    return URGENT + bucket if attempt.ask.urgent else bucket


class Waitlists:
    """The lines of one worker with so many slots, one for each bucket, and which of the bucket's calls are its own."""

    def __init__(self, slots: Callable[[], int]) -> None:
        self._slots = slots
        self._standing = 0
        self._went: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=1000))
        self._lines: dict[str, deque[Waiter]] = {}
        self._going: Counter[str] = Counter()  # how many of a line have gone since one was refused
        self._rounds: dict[str, int] = {}  # and how many had before
        self._flying: Counter[str] = Counter()
        self._taken: dict[str, tuple[str, ...]] = {}
        self._booked: set[str] = set()

    def line(self) -> Waiter:
        """One job's way through the lines: a context, at whose end it goes out of them."""
        return Waiter(self)

    def taken(self, attempt: Attempt) -> None:
        """An attempt was admitted."""
        charges = attempt.ask.candidates[attempt.routes.index(attempt.route)].charges
        if attempt.wait > AHEAD:
            self._booked.add(attempt.ask.id)
        for charge in charges:
            if not charge.quota.concurrency:
                self._went[charge.bucket].append(time.monotonic())
                self._going[line_of(attempt, charge.bucket)] += attempt.ask.for_waitlist
        if limited := tuple(charge.bucket for charge in charges if charge.quota.concurrency):
            self._taken[attempt.ask.id] = limited
            self._flying.update(limited)

    def left(self, reservation: str) -> None:
        """A call that was admitted goes out."""
        self._booked.discard(reservation)

    def free(self, reservation: str) -> None:
        """A call has ended, and the server knows it; or it was never made."""
        self._booked.discard(reservation)
        for bucket in self._taken.pop(reservation, ()):
            self._flying[bucket] -= 1
            if self._flying[bucket] <= 0:
                del self._flying[bucket]
            self._went[bucket].append(time.monotonic())
            if not self._call(URGENT + bucket):
                self._call(bucket)

    def refused(self, line: str) -> None:
        """One who asked for a rate was told to wait: those who come later would be, too."""
        gone = self._going.pop(line, 0)
        self._rounds[line] = gone or self._rounds.get(line, 0) // 2

    def take_along(self, line: str) -> None:
        """The first in line asks: so do as many with it as have lately gone together."""
        for _ in range(self._rounds.get(line, 0) - 1):
            if not self._call(line):
                return

    def room(self, line: str, seconds: float) -> bool:
        """Whether one more may stand in line, whose turn is expected in so many seconds."""
        return self._spare() > 0 and (seconds <= SOON or self.wanted(line) > 0)

    def _spare(self) -> int:
        """How many more of the worker's slots may go to those who only wait in them."""
        return self._slots() // 2 - self._standing - len(self._booked)

    def wanted(self, line: str) -> int:
        """How many more are to stand by."""
        bucket = line.removeprefix(URGENT)
        went, since = self._went[bucket], time.monotonic() - SUPPLY
        while went and went[0] < since:
            went.popleft()
        supply = min(self._slots() // 2, max(1, self._flying[bucket], len(went)))
        return min(supply - self.length(line), self._spare())

    def length(self, line: str) -> int:
        """How many stand in line."""
        return len(self._lines.get(line, ()))

    def line_before(self, attempt: Attempt) -> str:
        """A line that the attempt would have to wait behind whichever way it went, '' where there is a way without."""
        found = ""
        for candidate in attempt.ask.candidates:
            lines = [each.bucket for each in candidate.charges if line_of(attempt, each.bucket) in self._lines]
            if not lines:
                return ""
            found = found or lines[0]
        return found

    def first(self, line: str) -> Waiter | None:
        """Who is the first in line."""
        standing = self._lines.get(line)
        return standing[0] if standing else None

    def join(self, standing: Waiter) -> None:
        """Somebody goes to the end of the line."""
        self._lines.setdefault(standing.name, deque()).append(standing)
        self._standing += 1

    def leave(self, standing: Waiter) -> None:
        """Somebody goes out of the line."""
        line = self._lines[standing.name]
        line.remove(standing)
        self._standing -= 1
        if not line:
            for of_line in (self._lines, self._rounds, self._going):
                of_line.pop(standing.name, None)
        elif not any(each.called for each in line):
            self._call(standing.name)
        elif not line[0].called:
            line[0].promote()

    def look_up(self) -> None:
        """Whoever waits here looks whether it still has to."""
        for line in self._lines.values():
            for standing in line:
                standing.look_up()

    def _call(self, line: str) -> bool:
        """The first one who is not asking already may ask; whether there is one."""
        for standing in self._lines.get(line, ()):
            if not standing.called:
                standing.call()
                return True
        return False
