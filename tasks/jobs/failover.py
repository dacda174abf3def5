"""Targets that have failed in this delivery: excluded until their backoff is over.

After a failure the next attempt goes to another target at once. If that one takes no call for now, the failed target is
asked again as soon as its backoff is over: a blocked account, a pause or an open circuit at one target must not hold up
a job that the other would take.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from workers.models.routing import Route


@dataclass(slots=True)
class Failover:
    """The excluded targets, by name. `not_before`: when the last one's backoff is over, in seconds of `clock`."""

    excluded: set[str] = field(default_factory=set)
    not_before: float = 0.0
    clock: Callable[[], float] = time.monotonic

    def exclude(self, target: str, backoff: float) -> None:
        """Exclude a target that has just failed, for `backoff` seconds at least."""
        self.excluded.add(target)
        self.not_before = self.clock() + backoff

    def has_others(self, target: str, routes: Iterable[Route]) -> bool:
        """Whether a route leads to a target that has not failed in this delivery. `target` has just failed."""
        return any(route.target not in {*self.excluded, target} for route in routes)

    def left(self) -> float:
        """Seconds until the excluded targets may be asked again."""
        return max(0.0, self.not_before - self.clock())

    def end(self) -> None:
        """Exclude no target any more."""
        self.excluded.clear()
