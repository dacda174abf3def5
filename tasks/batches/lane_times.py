"""How long a target's provider batches have taken, kept in Redis: for the forecast, and for the takeover.

The latest `KEPT` are remembered. One that was cancelled counts with the time that it had: it would have taken longer.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, cast

from tasks.batches.chunk import Chunk
from tasks.batches.store import Store

#: Provider batches that are remembered for each target.
KEPT: Final = 200

#: Seconds for which they are remembered after the latest.
LIFETIME: Final = 60 * 86_400

#: Provider batches from which on something is said about the next ones.
ENOUGH: Final = 5

#: Cancelling is expected to take this multiple of the longest time that it has taken lately.
SAFETY: Final = 1.25

Kind = Literal["done", "cancel"]
"""What took its time: the whole provider batch, or cancelling it."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that a target's provider batches have taken, in ascending order."""

    seconds: tuple[float, ...] = ()

    def within(self, part: float) -> float:
        """Seconds within which this part of them had ended; 0 if there were too few."""
        if len(self.seconds) < ENOUGH:
            return 0.0
        return self.seconds[max(0, math.ceil(part * len(self.seconds)) - 1)]


class LaneTimes:
    """What is remembered of all targets."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[tuple[str, Kind], Times] = {}

    def of(self, target: str, kind: Kind = "done") -> Times:
        """The times of a target, as of the first question."""
        if (target, kind) not in self._known:
            found = cast("list[bytes]", self.store.client.lrange(self.store.keys.lane_times(target, kind), 0, KEPT - 1))
            self._known[target, kind] = Times(tuple(sorted(float(each) for each in found)))
        return self._known[target, kind]

    def ended(self, chunk: Chunk, now: float) -> None:
        """Remember a provider batch that has ended."""
        self._add(chunk.target, "done", (chunk.cancelled_at or now) - chunk.created_at)
        if chunk.cancelled_at:
            self._add(chunk.target, "cancel", now - chunk.cancelled_at)

    def typical(self, targets: Iterable[str]) -> float:
        """Seconds within which half of the provider batches of the fastest of `targets` end; 0 if unknown."""
        return min((self.of(target).within(0.5) for target in targets), default=0.0)

    def cancelling(self, target: str) -> float:
        """Seconds that cancelling a provider batch takes at most, from the latest; 0 if unknown."""
        return SAFETY * self.of(target, "cancel").within(1.0)

    def _add(self, target: str, kind: Kind, seconds: float) -> None:
        key = self.store.keys.lane_times(target, kind)
        with self.store.client.pipeline(transaction=True) as pipeline:
            pipeline.lpush(key, f"{max(0.0, seconds):.3f}")
            pipeline.ltrim(key, 0, KEPT - 1)
            pipeline.expire(key, LIFETIME)
            pipeline.execute()
        self._known.pop((target, kind), None)
