"""What a job carries from one delivery to the next, in a header of its message."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from limits.reservation import Settlement
from workers.ids import unique_id
from workers.providers.errors import Broken, ProviderError, Throttled

#: Seconds that a snoozed job comes back early. The queue hands a job out up to half a second late, and capacity would
#: stay unused for that long; so the job comes early and waits for the exact time in its worker.
EARLY = 1.0

#: Broken answers that end a job. Each may be billed, and the next call may bring the same, so a job gets one more try.
MAX_BROKEN = 2


@dataclass(slots=True)
class JobState:
    """Counts of what has happened to a job so far.

    attempts   failures that count against `max_attempts`
    broken     attempts whose answer could not be used
    throttles  429s
    alone      429s about the size of this job's request
    snoozes    waits in the queue
    crashes    failures of the worker's own code
    calls      requests sent
    cost       what its failed attempts may have cost, in n$
    counted_…  the part of a count that the batch already counted when a call was settled
    since      first delivery, in seconds since the epoch
    no_flex    1 if the provider refused its flex tier
    until      when to go on, in ms since the epoch; 0: at once
    owner      the name of this delivery; not carried over
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
    no_flex: int = 0
    since: int = 0
    until: int = 0
    owner: str = field(default_factory=unique_id)

    @classmethod
    def from_header(cls, header: Any) -> "JobState":
        """The state in a message's header. Values that aren't counts are ignored, and large ones are cut.

        Anyone can write a message: its numbers must not overflow a sum in the server.
        """
        state = cls()
        now = int(time.time())
        if isinstance(header, dict):
            for name, most in _CARRIED.items():
                if type(value := header.get(name)) is int and value >= 0:
                    setattr(state, name, min(value, most))
        state.since = min(state.since or now, now)
        return state

    def to_header(self) -> dict[str, int]:
        """The header for the next delivery: counts one more snooze, and leaves out zeros."""
        self.snoozes += 1
        return {name: value for name in _CARRIED if (value := getattr(self, name))}

    def counts(self) -> dict[str, int]:
        """The counts to keep with an answer, without zeros."""
        return {name: value for name in _CARRIED if name != "until" and (value := getattr(self, name))}

    def restore(self, counts: Mapping[str, int]) -> None:
        """Take over counts that were kept with an answer: those of this delivery's message may be older."""
        for name, value in counts.items():
            if name in _CARRIED and name != "since":
                setattr(self, name, max(getattr(self, name), value))

    def waits(self, seconds: float, *, exact: bool = True) -> float:
        """Note when to go on. Returns the seconds to snooze: `EARLY` less than `seconds`.

        `exact`: there is no point in asking before that time.
        """
        self.until = round((time.time() + seconds) * 1000) if exact else 0
        return max(0.0, seconds - EARLY)

    def left(self) -> float:
        """Seconds until the job may go on; 0 if it has no exact time or that has passed."""
        until, self.until = self.until, 0
        left = until / 1000 - time.time()
        return left if 0 < left <= 2 * EARLY else 0.0

    def counted(self, closing: Settlement) -> None:
        """Note that the batch has counted a call of this settlement."""
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
        """How many failures end the job: `allowed`, or fewer after `MAX_BROKEN` broken answers."""
        return min(allowed, self.attempts) if self.broken >= MAX_BROKEN else allowed


#: The fields in the header, each with its upper bound: counts, n$ (a million dollars), s, ms.
_CARRIED: Final = {each.name: 1_000_000 for each in fields(JobState) if each.name != "owner"} | {
    "cost": 10**15,
    "since": 1 << 40,
    "until": 1 << 50,
}
