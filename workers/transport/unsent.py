"""Changes to claimed messages that the server has not taken yet: acknowledged, delayed, given back, buried.

Adding one never waits for the server. If it is unreachable, the changes stay here until a later flush.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from limits.client.scripts import Call
from workers.transport.broker import Broker, Delay

T = TypeVar("T")

#: Messages in one script call, so that no call holds up the server.
STEP: Final = 200


@dataclass(slots=True)
class Unsent:
    """Changes by delivery tag. Any thread may append; one thread flushes."""

    broker: Broker
    acknowledged: deque[str] = field(default_factory=deque)
    delayed: deque[tuple[float, str, str]] = field(default_factory=deque)  # due (monotonic), tag, new message
    to_front: deque[str] = field(default_factory=deque)
    to_back: deque[str] = field(default_factory=deque)
    buried: deque[tuple[str, str]] = field(default_factory=deque)  # tag, reason

    def __bool__(self) -> bool:
        return bool(self.acknowledged or self.delayed or self.to_front or self.to_back or self.buried)

    def flush(self, run: Callable[[Call[Any]], Any]) -> None:
        """Send all changes with `run`. If it raises, the unsent ones stay."""
        _send(self.acknowledged, run, self.broker.acknowledge)
        _send(self.delayed, run, self._delay)
        _send(self.to_front, run, lambda tags: self.broker.give_back(tags, "first"))
        _send(self.to_back, run, lambda tags: self.broker.give_back(tags, "last"))
        while self.buried:
            tag, reason = self.buried[0]
            run(self.broker.bury(tag, reason))
            self.buried.popleft()

    def _delay(self, waits: list[tuple[float, str, str]]) -> Call[int]:
        now = time.monotonic()
        return self.broker.delay([Delay(tag, max(0.0, due - now), message) for due, tag, message in waits])


def _send(waiting: deque[T], run: Callable[[Call[Any]], Any], call: Callable[[list[T]], Call[int]]) -> None:
    while waiting:
        step = [waiting.popleft() for _ in range(min(STEP, len(waiting)))]
        try:
            run(call(step))
        except BaseException:
            waiting.extendleft(reversed(step))
            raise
