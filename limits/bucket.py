"""A bucket: one quota of a provider, as the calls of all workers draw on it.

Each dimension is a GCRA (generic cell rate algorithm, ITU-T I.371): one number, the theoretical arrival time
(TAT), tells how far ahead of the clock the calls admitted so far have run. A call of cost c fits at time t
when TAT + c/rate - capacity <= t; it then moves TAT to max(TAT, t) + c/rate. Refill is continuous, nothing
is ever counted twice or forgotten at a window's edge, and the answer "when" costs nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from limits.errors import InvalidQuota

PERIODS: Final = {"rpm": 60, "tpm": 60, "itpm": 60, "otpm": 60, "rpd": 86_400, "tpd": 86_400}
"""Seconds over which each dimension's limit is counted: requests, tokens, input and output tokens."""

MINUTES: Final = frozenset(name for name, seconds in PERIODS.items() if seconds == PERIODS["rpm"])
"""The dimensions that are counted by the minute."""

CAREFUL: Final = 0.97
"""The part of a limit that is used where nobody can be sure of what is left (limits/lua/lib/bucket.lua)."""

LARGEST: Final = 2**53
"""Lua's numbers are doubles: integers are exact below this."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of one bucket, as configured. None: unlimited.

    `burst` is how many seconds of the rate may go out at once. "auto" learns it, between 1 s and 60 s, from
    the provider's headers and its 429s. It governs the per-minute dimensions; a day's quota may be used at
    any pace. `headroom` is the part of each limit that is used: clocks differ and requests overtake each
    other. "auto" uses 0.97, and all of it where headers make sure that it can be used
    (limits/lua/lib/bucket.lua). `urgent_share` is the part of the quota (and of the calls in flight) kept for
    urgent work while there is any.
    """

    rpm: int | None = None
    tpm: int | None = None
    itpm: int | None = None
    otpm: int | None = None
    rpd: int | None = None
    tpd: int | None = None
    concurrency: int | None = None
    burst: float | Literal["auto"] = "auto"
    headroom: float | Literal["auto"] = "auto"
    urgent_share: float = 0.1
    #: The limit of each dimension that has one, concurrency aside.
    limits: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in (*PERIODS, "concurrency"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < LARGEST:
                raise InvalidQuota(f"{name} = {value!r}: expected a whole number of at least 1.")
        if self.burst != "auto" and not 0 < self.burst <= PERIODS["rpm"]:
            raise InvalidQuota(f'burst = {self.burst!r}: expected "auto" or seconds, above 0 and up to 60.')
        if self.headroom != "auto" and not 0 < self.headroom <= 1:
            raise InvalidQuota(f'headroom = {self.headroom!r}: expected "auto" or a part of it, above 0 and up to 1.')
        if not 0 <= self.urgent_share < 1:
            raise InvalidQuota(f"urgent_share = {self.urgent_share!r}: expected a part of the quota, below 1.")
        limits = {name: limit for name in PERIODS if (limit := getattr(self, name)) is not None}
        object.__setattr__(self, "limits", limits)

    @property
    def paces(self) -> bool:
        """Whether a limit of a minute is among them."""
        return not MINUTES.isdisjoint(self.limits)

    @property
    def least(self) -> float:
        """The part of each limit that is used in any case."""
        return CAREFUL if self.headroom == "auto" else self.headroom

    def seconds(self, costs: Mapping[str, int]) -> float:
        """For how long a call of such costs takes up the whole rate of the minutes' limits."""
        rates = {name: limit * self.least / PERIODS[name] for name, limit in self.limits.items()}
        return max((costs.get(name, 0) / rate for name, rate in rates.items() if name in MINUTES), default=0.0)
