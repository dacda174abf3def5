"""The way around targets that have failed in this delivery: whom not to ask, and for how long at the least.

After a failure the next attempt goes to another target at once. Where that one takes no call for now, the target that
failed is asked again as soon as its backoff is over, as if there were no other: a latch, a pause or an open circuit of
the one must not hold up jobs that the other would take.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from workers.models.routing import Route


@dataclass(slots=True)
class Failover:
    """The targets to excluded, by name. `until`: when the backoff of the last one is over, in `clock`'s seconds."""

    excluded: set[str] = field(default_factory=set)
    until: float = 0.0
    clock: Callable[[], float] = time.monotonic

    def around(self, target: str, backoff: float) -> None:
        """Avoid one more target, which has failed just now."""
        self.excluded.add(target)
        self.until = self.clock() + backoff

    def others(self, target: str, routes: Iterable[Route]) -> bool:
        """Whether one of the routes leads to a target that has not failed in this delivery, as this one just did."""
        return any(route.target not in {*self.excluded, target} for route in routes)

    def left(self) -> float:
        """Seconds until those to excluded may be asked again."""
        return max(0.0, self.until - self.clock())

    def end(self) -> None:
        """Avoid nobody any more."""
        self.excluded.clear()
