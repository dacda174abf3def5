"""Waits that this worker was told just now: known here before the admission can tell every worker of them.

A 429 travels to Redis in its settlement, and nothing is let go after it. But calls that were let go before that, and
have yet to be written (the worker is busy, their connection has to be made first), would leave all the same.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

#: The shortest pause after a 429 that tells no wait, in seconds: what the admission begins with
#: (limits/lua/lib/provider.lua).
UNTOLD: Final = 1.0


@dataclass(slots=True)
class _Told:
    """Until when to wait, since when the admission knows of it, and the calls that are yet to be settled."""

    until: float = 0.0
    known: float = 0.0
    open: set[str] = field(default_factory=set)


class Throttles:
    """When this worker itself was told to wait, and until when. Times are monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, _Told] = {}
        self._calls: dict[str, str] = {}
        self._open: dict[str, float] = {}

    def passed(self, bucket: str, asked: float) -> None:
        """A call of the bucket was let go that had asked then: nobody had been told to wait by that time."""
        self._open[bucket] = max(asked, self._open.get(bucket, 0.0))

    def passed_since(self, bucket: str, asked: float) -> float:
        """When it was last known that nobody was told to wait, by one who asked then or by a later one."""
        return max(asked, self._open.get(bucket, 0.0))

    def told(self, bucket: str, seconds: float | None, call: str) -> None:
        """A provider has told a wait, or none (None), to that call: it begins now, and makes no other shorter."""
        found = self._told.setdefault(bucket, _Told())
        found.until = max(found.until, self._clock() + (UNTOLD if seconds is None else seconds))
        found.open.add(call)
        self._calls[call] = bucket

    def known(self, call: str) -> None:
        """The call is settled: of whatever it was told, the admission knows now."""
        if (found := self._told.get(self._calls.pop(call, ""))) is None:
            return
        found.open.discard(call)
        found.known = self._clock()

    def over(self, bucket: str, asked: float) -> bool:
        """Whether a call may leave whose leave was asked then; who asks later is told by the admission."""
        found = self._told.get(bucket)
        if found is None:
            return True
        if found.until > self._clock():
            return not found.open and asked > found.known
        del self._told[bucket]
        for call in found.open:
            self._calls.pop(call, None)
        return True
