"""How fast something goes: jobs a second over the last minute, from counts read now and then."""

from collections import deque
from collections.abc import Hashable, Iterable

#: Seconds over which a pace is measured, and how old a first reading must be before it is told.
WINDOW, ENOUGH = 60.0, 1.0


class Throughput:
    """The paces of many things, each by its name."""

    def __init__(self, window: float = WINDOW) -> None:
        self.window = window
        self.readings: dict[Hashable, deque[tuple[float, int]]] = {}

    def read(self, name: Hashable, count: int, at: float) -> None:
        """Note a count that only grows, as of `at` seconds; one that has shrunk begins anew."""
        seen = self.readings.setdefault(name, deque())
        if seen and count < seen[-1][1]:
            seen.clear()
        if seen and at <= seen[-1][0]:
            return
        seen.append((at, count))
        # One reading older than the window stays, so that the window is always covered.
        while len(seen) > 2 and seen[1][0] <= at - self.window:  # noqa: PLR2004 - two readings make a pace
            seen.popleft()

    def per_second(self, name: Hashable) -> float | None:
        """The pace, None while there are too few readings to tell."""
        seen = self.readings.get(name)
        if not seen or seen[-1][0] - seen[0][0] < ENOUGH:
            return None
        return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])

    def keep(self, names: Iterable[Hashable]) -> None:
        """Forget everything but these."""
        kept = set(names)
        for name in [name for name in self.readings if name not in kept]:
            del self.readings[name]
