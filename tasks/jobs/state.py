"""What a job remembers from one delivery to the next: it travels in a header of its message."""

import time
from dataclasses import dataclass, field, fields
from typing import Any, Final

from limits.reservation import Settlement
from workers.ids import unique_id
from workers.providers.errors import Broken, ProviderError, Throttled

#: A queue gives a job back to within half a second, and a place that came free would be empty for as long: a job comes
#: back this much earlier, in seconds, and waits for its moment in its worker.
EARLY = 1.0


#: A job asks again after one answer that is none: each may be paid for, and the next may be the same.
MOST_BROKEN = 2


@dataclass(slots=True)
class JobState:
    """Counts of what has happened to a job so far.

    `attempts` are failures that counted, `broken` those of them that brought an answer which is none, `throttles`
    429s, `alone` those that were about this job's size, `snoozes` waits in the queue, `crashes` failures of the
    worker's own code, `calls` requests sent. `cost` is what its failed attempts may have cost, in n$. The `counted_…`
    are the parts of these that its batch has counted when they were settled. `since` is when it was first delivered,
    in seconds since the epoch, `until` when it is to go on, in ms. `owner` names this delivery and is not remembered.
    """

    attempts: int = 0
    broken: int = 0
    throttles: int = 0
    alone: int = 0
    snoozes: int = 0
    crashes: int = 0
    calls: int = 0
    cost: int = 0
    counted_throttles: int = 0
    counted_calls: int = 0
    counted_cost: int = 0
    since: int = 0
    until: int = 0
    owner: str = field(default_factory=unique_id)

    @classmethod
    def from_header(cls, header: Any) -> "JobState":
        """The state that a message carries; what is no count in it counts as nothing, and none is beyond its bound.

        A message may say what it likes: it must not keep a sum in the server from being added to.
        """
        state = cls()
        now = int(time.time())
        if isinstance(header, dict):
            for name, most in _REMEMBERED.items():
                if type(value := header.get(name)) is int and value >= 0:
                    setattr(state, name, min(value, most))
        state.since = min(state.since or now, now)
        return state

    def to_header(self) -> dict[str, int]:
        """What the next delivery is to know: one more snooze, and nothing that is zero."""
        self.snoozes += 1
        return {name: value for name in _REMEMBERED if (value := getattr(self, name))}

    def waits(self, seconds: float, *, exact: bool = True) -> float:
        """Note when the job is to go on; for how many seconds to put it back, a little less than it has to wait.

        Where the time is not `exact`, it is worth asking before.
        """
        self.until = round((time.time() + seconds) * 1000) if exact else 0
        return max(0.0, seconds - EARLY)

    def left(self) -> float:
        """Seconds that it came back too early."""
        until, self.until = self.until, 0
        left = until / 1000 - time.time()
        return left if 0 < left <= 2 * EARLY else 0.0

    def counted(self, closing: Settlement) -> None:
        """Its batch has counted a call of this settlement."""
        self.counted_calls += closing.columns.get("calls", 0)
        self.counted_throttles += closing.columns.get("throttled", 0)
        self.counted_cost += closing.amount

    def failed(self, error: ProviderError) -> None:
        """Count a call that brought no answer."""
        if isinstance(error, Throttled):
            self.throttles += 1
            self.alone += error.only_for == "size"
        elif error.spends_attempt or not error.blocked:
            self.attempts += 1
            self.broken += isinstance(error, Broken)

    def most_attempts(self, allowed: int) -> int:
        """After how many failures the job ends, of those that its workflow allows."""
        return min(allowed, self.attempts) if self.broken >= MOST_BROKEN else allowed


#: What travels from one delivery to the next, and the most of it: counts, n$ (a million dollars), s, ms.
_REMEMBERED: Final = {each.name: 1_000_000 for each in fields(JobState) if each.name != "owner"} | {
    "cost": 10**15,
    "since": 1 << 40,
    "until": 1 << 50,
}
