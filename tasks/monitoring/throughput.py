"""Throughput: jobs a second over the last minute, from counts that are read now and then."""

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Final

#: Seconds over which a rate is measured.
WINDOW: Final = 60.0

#: Seconds between the first and the last reading from which on a rate is known.
ENOUGH: Final = 1.0


class Throughput:
    """The rates of many counts, each by its name."""

    def __init__(self, window: float = WINDOW) -> None:
        self.window = window
        self.readings: dict[Hashable, deque[tuple[float, int]]] = {}

    def record(self, name: Hashable, count: int, at: float) -> None:
        """Record a count as of `at` seconds. One that shrinks starts over."""
        seen = self.readings.setdefault(name, deque())
        if seen and count < seen[-1][1]:
            seen.clear()
        if seen and at <= seen[-1][0]:
            return
        seen.append((at, count))
        # One reading older than the window stays, so that the window is always covered.
        while len(seen) > 2 and seen[1][0] <= at - self.window:  # noqa: PLR2004 - two readings make a rate
            seen.popleft()

    def per_second(self, name: Hashable) -> float | None:
        """The rate, None if it is too early to say."""
        seen = self.readings.get(name)
        if not seen or seen[-1][0] - seen[0][0] < ENOUGH:
            return None
        return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])

    def keep(self, names: Iterable[Hashable]) -> None:
        """Forget every count but `names`."""
        kept = set(names)
        for name in [name for name in self.readings if name not in kept]:
            del self.readings[name]
