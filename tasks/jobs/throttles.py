"""Pauses that this worker has just learned of, before the admission can enforce them for every worker.

A 429 travels to Redis with its settlement, and no call is admitted after that. But calls that were admitted before, and
are not written yet (the worker is busy, or a connection must be made first), would still be sent.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

#: Seconds of the pause after a 429 without a Retry-After: the admission's first one (limits/lua/lib/provider.lua).
DEFAULT_PAUSE: Final = 1.0


@dataclass(slots=True)
class _Pause:
    """When the pause ends, since when the admission knows of it, and the throttled calls that are not settled yet."""

    until: float = 0.0
    known: float = 0.0
    open: set[str] = field(default_factory=set)


class Throttles:
    """This worker's own pauses, by bucket. Times are monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pauses: dict[str, _Pause] = {}
        self._calls: dict[str, str] = {}
        self._cleared: dict[str, float] = {}

    def cleared(self, bucket: str, asked: float) -> None:
        """Note that the admission let a call be sent that had asked at `asked`: there was no pause then."""
        self._cleared[bucket] = max(asked, self._cleared.get(bucket, 0.0))

    def cleared_at(self, bucket: str, asked: float) -> float:
        """When there was last known to be no pause: at `asked`, or at a later question of this worker."""
        return max(asked, self._cleared.get(bucket, 0.0))

    def pause(self, bucket: str, seconds: float | None, call: str) -> None:
        """Begin a pause of `seconds` (None: the provider named no time) for a throttled `call`."""
        found = self._pauses.setdefault(bucket, _Pause())
        found.until = max(found.until, self._clock() + (DEFAULT_PAUSE if seconds is None else seconds))
        found.open.add(call)
        self._calls[call] = bucket

    def settled(self, call: str) -> None:
        """Note that the call is settled: the admission knows of its pause now."""
        if (found := self._pauses.get(self._calls.pop(call, ""))) is None:
            return
        found.open.discard(call)
        found.known = self._clock()

    def allows(self, bucket: str, asked: float) -> bool:
        """Whether a call may be sent that asked at `asked`. A call that asked later was checked by the admission."""
        found = self._pauses.get(bucket)
        if found is None:
            return True
        if found.until > self._clock():
            return not found.open and asked > found.known
        del self._pauses[bucket]
        for call in found.open:
            self._calls.pop(call, None)
        return True
