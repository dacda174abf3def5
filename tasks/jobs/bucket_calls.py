"""This worker's calls of one bucket: how many may start together, how many are in flight, and what a 429 stops.

A provider's limit may be unknown until it answers 429. Every call that has started by then and isn't written yet comes
too late. So a worker starts slowly, as TCP does: a few calls at first, one more for every few that were sent and not
refused, and a few again after a 429.

A 429 reaches Redis with its settlement, and the admission lets no call out after that. Until then this worker asks for
none, and holds back those that were admitted and are not written yet.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

#: How many calls of a bucket may start at the same time at first. As many as start together can be refused together.
FIRST: Final = 6

#: How many calls without a 429 allow one more. After the 300 calls with which each of four workers fills a minute's
#: quota of 1,200, that is few enough; a busy worker has room for all that it claims within some thousands.
CALLS: Final = 32

#: Seconds after which a start stops counting, though its request isn't written yet: a handshake across the world takes
#: a quarter of a second, and doesn't keep the worker busy.
CONNECTING: Final = 0.05

#: Seconds after which a sent call counts as one without a 429: a refusal comes sooner, an answer may take minutes.
QUIET: Final = 0.25

#: Seconds of the pause after a 429 without a Retry-After: the admission's first one (limits/lua/lib/provider.lua).
DEFAULT_PAUSE: Final = 1.0

#: Seconds of work that the waiters of a bucket should last for.
SUPPLY: Final = 2.0


class BucketCalls:
    """Times are seconds of `clock`, which is monotonic. `wake` is called when another call may start."""

    def __init__(self, wake: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._wake = wake
        self._clock = clock
        self.in_flight = 0  # counted only if the bucket limits concurrency
        self._starting = 0
        self._width = float(FIRST)
        self._sent: deque[float] = deque()  # calls that may still be refused: when each was sent
        self._lately: deque[float] = deque(maxlen=1000)  # when capacity was used or became free
        self._until = 0.0  # the end of the pause that a 429 of this worker has begun
        self._known = 0.0  # since when the admission knows of it
        self._unsettled: set[str] = set()  # the refused calls that the admission doesn't know of
        self._cleared = 0.0  # when the admission last let a call of this worker out: there was no pause then

    def room(self) -> int:
        """How many more calls may start now."""
        if self._unsettled and self._until > self._clock():
            return 0
        quiet = self._clock() - QUIET
        while self._sent and self._sent[0] <= quiet:
            self._sent.popleft()
            self._width += 1 / CALLS
        return int(self._width) - self._starting

    def start(self) -> None:
        """A call starts: its reservation is asked for. It does until `end_start`."""
        self._starting += 1

    def end_start(self) -> None:
        """A start ends: its request is written, or it must wait for something else."""
        self._starting -= 1
        self._wake()

    def sent(self) -> None:
        """Note that a request is written."""
        self._sent.append(self._clock())

    def used(self) -> None:
        """Note that a call was admitted, or that a call in flight has ended if the bucket limits concurrency."""
        self._lately.append(self._clock())

    def supply(self) -> int:
        """How many calls the bucket is expected to allow soon."""
        since = self._clock() - SUPPLY
        while self._lately and self._lately[0] < since:
            self._lately.popleft()
        return max(1, self.in_flight, len(self._lately))

    def throttled(self, seconds: float | None, call: str) -> None:
        """Stop: `call` got a 429 that asks for a pause of `seconds`; None if it names no time."""
        self._width = float(FIRST)
        self._sent.clear()
        self._until = max(self._until, self._clock() + (DEFAULT_PAUSE if seconds is None else seconds))
        self._unsettled.add(call)

    def settled(self, call: str) -> None:
        """Note that a throttled call is settled: the admission knows of its pause now."""
        self._unsettled.discard(call)
        self._known = self._clock()
        self._wake()

    def cleared(self, asked: float) -> None:
        """Note that the admission let a call be sent that had asked at `asked`."""
        self._cleared = max(asked, self._cleared)

    def cleared_at(self, asked: float) -> float:
        """When there was last known to be no pause: at `asked`, or at a later question of this worker."""
        return max(asked, self._cleared)

    def allows(self, asked: float) -> bool:
        """Whether an admitted call may be written that asked at `asked`."""
        return self._until <= self._clock() or (not self._unsettled and asked > self._known)
