"""A bucket: one quota of a provider, which the calls of all workers share.

Each dimension is a GCRA (generic cell rate algorithm, ITU-T I.371). One number, the theoretical arrival time (TAT),
says how far ahead of the clock the admitted calls have run. A call of cost c fits at time t if
TAT + c/rate - capacity <= t, and then moves TAT to max(TAT, t) + c/rate. The bucket refills continuously, nothing is
counted twice or lost at the edge of a window, and it costs nothing to say when a call will fit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from limits.errors import InvalidQuota

PERIODS: Final = {"rpm": 60, "tpm": 60, "itpm": 60, "otpm": 60, "rpd": 86_400, "tpd": 86_400}
"""Seconds over which each dimension's limit is counted."""

MINUTES: Final = frozenset(name for name, seconds in PERIODS.items() if seconds == PERIODS["rpm"])
"""The dimensions that are counted by the minute."""

CAREFUL: Final = 0.97
"""The part of a limit that is used while we can't be sure of what is left (limits/lua/lib/bucket.lua)."""

LARGEST: Final = 2**53
"""Lua's numbers are doubles: integers are exact below this."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of one bucket, as configured. None if unlimited.

    - `rpm` ... `tpd`: requests, tokens, input tokens or output tokens a minute or a day.
    - `concurrency`: calls in flight.
    - `burst`: seconds of the rate that may be sent at once. "auto" learns it from headers and 429s, between 1 and 60.
      It applies to the limits per minute; a day's quota may be used at any pace.
    - `headroom`: the part of each limit that is used, because clocks differ and requests overtake each other. "auto" is
      0.97, or 1 if headers prove that all of it can be used (limits/lua/lib/bucket.lua).
    - `urgent_share`: the part of the quota and of the calls in flight that is kept for urgent work, if there is any.
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
    limits: Mapping[str, int] = field(init=False, repr=False, compare=False)
    """The limit of each dimension that has one, without `concurrency`."""

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
        """Whether any limit is per minute."""
        return not MINUTES.isdisjoint(self.limits)

    @property
    def least(self) -> float:
        """The smallest part of each limit that is used."""
        return CAREFUL if self.headroom == "auto" else self.headroom

    def seconds(self, costs: Mapping[str, int]) -> float:
        """How long a call with these costs takes up the whole rate of the limits per minute (s)."""
        rates = {name: limit * self.least / PERIODS[name] for name, limit in self.limits.items()}
        return max((costs.get(name, 0) / rate for name, rate in rates.items() if name in MINUTES), default=0.0)
