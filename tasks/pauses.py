"""Waits that this worker was told just now: known here before the admission can tell every worker of them.

A 429 travels to Redis in its settlement, and nothing is let go after it. But calls that were let go before that, and
have yet to be written (the worker is busy, their connection has to be made first), would leave all the same.
"""

import time
from collections.abc import Callable
from typing import Final

#: The shortest pause after a 429 that tells no wait, in seconds: what the admission begins with
#: (limits/lua/lib/provider.lua).
UNTOLD: Final = 1.0


class Pauses:
    """When this worker itself was told to wait, and until when. Times are monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, tuple[float, float]] = {}

    def told(self, bucket: str, seconds: float | None) -> None:
        """A provider has told a wait, or none (None): it begins now, and makes no other shorter."""
        now = self._clock()
        until = now + (UNTOLD if seconds is None else seconds)
        self._told[bucket] = (now, max(until, self._told.get(bucket, (0.0, 0.0))[1]))

    def over(self, bucket: str, asked: float) -> bool:
        """Whether a call may leave whose leave was asked then: after the wait was told, the admission knew of it."""
        told = self._told.get(bucket)
        if told is None:
            return True
        now, (at, until) = self._clock(), told
        if until <= now:
            del self._told[bucket]
            return True
        return asked > at
