"""The events of a history, in order of time."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.unit.limits.world import World


@dataclass(order=True)
class Event:
    """Something that happens at `time` (µs)."""

    time: int
    number: int
    act: Callable[[], None] = field(compare=False)


class Timeline:
    """Moves the world's clock from event to event."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: list[Event] = []
        self.numbers = itertools.count()

    def at(self, time: int, act: Callable[[], None]) -> None:
        heapq.heappush(self.events, Event(time, next(self.numbers), act))

    def until(self, end: int) -> None:
        """Run all events that are due by `end`."""
        while self.events and self.events[0].time <= end:
            event = heapq.heappop(self.events)
            self.world.now = max(self.world.now, event.time)
            event.act()
        self.world.now = max(self.world.now, end)
