"""How many jobs of a model a worker starts at a time: few at first, more as calls go well, few again after a 429.

A provider's limit may be known to nobody until it answers 429. Whatever has begun to start by then, and has yet to be
written, is late: the more there is of it, the longer a turn of the event loop takes, and the later the 429 is read. So
a start is slow, as TCP's is. Once hundreds of calls have gone without one, all that come start together: their round
trips to Redis are shared (limits/client/pipeline.py).
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

#: How many start at a time at first, and how many calls make it one more that left so many seconds ago without a 429
#: since: a refusal comes sooner than that, an answer may take minutes.
FIRST: Final = 8
CALLS: Final = 4
QUIET: Final = 0.25

#: A start that has waited for its connection for so many seconds, and for more turns of the loop since than to connect
#: takes in itself, keeps nobody busy: a handshake across the world takes a quarter of a second, and thousands of calls
#: may be on their way before an answer.
BRIEF: Final = 0.01
TURNS: Final = 12


@dataclass(slots=True)
class _Model:
    """How many may start at a time, how many do, when the latest calls left, and who waits."""

    width: float = FIRST
    starting: int = 0
    left: deque[float] = field(default_factory=deque)
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class SlowStart:
    """The starts of one worker, which end when a request is written, or when its job has to wait for something else."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._starting: dict[str, str] = {}  # a delivery: its model
        self._connecting: deque[tuple[float, str]] = deque()  # since when, by the loop's clock, and which delivery

    async def turn(self, delivery: str, model: str) -> None:
        """Wait for a turn to start, and have it until `over`."""
        found = self._models.setdefault(model, _Model())
        _call(found)  # whoever waits comes first
        if found.waiting or found.starting >= found.width:
            await _wait(found)
        else:
            found.starting += 1
        self._starting[delivery] = model

    def left(self, delivery: str, model: str) -> None:
        """The start is over: a call of the model leaves."""
        self._models.setdefault(model, _Model()).left.append(time.monotonic())
        self.over(delivery)

    def over(self, delivery: str) -> None:
        """The start is over; again changes nothing."""
        model = self._starting.pop(delivery, None)
        if model is None:
            return
        found = self._models[model]
        found.starting -= 1
        _call(found)
        if not found.starting and not found.left and found.width == FIRST:
            del self._models[model]  # nothing was learned: messages may name any model

    def connects(self, delivery: str) -> None:
        """The start has only its connection to wait for."""
        loop = asyncio.get_running_loop()
        if not self._connecting:
            loop.call_later(BRIEF, self._look)
        self._connecting.append((loop.time(), delivery))

    def _look(self) -> None:
        """See to those that have had BRIEF to connect; one timer is for all that come after one another."""
        loop = asyncio.get_running_loop()
        while self._connecting and self._connecting[0][0] + BRIEF <= loop.time():
            self._connects(self._connecting.popleft()[1], TURNS)
        if self._connecting:
            loop.call_at(self._connecting[0][0] + BRIEF, self._look)

    def _connects(self, delivery: str, turns: int) -> None:
        if not turns:
            self.over(delivery)
        elif delivery in self._starting:
            asyncio.get_running_loop().call_soon(self._connects, delivery, turns - 1)

    def refused(self, model: str) -> None:
        """A call of the model met a 429."""
        if found := self._models.get(model):
            found.width = FIRST
            found.left.clear()


async def _wait(found: _Model) -> None:
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    found.waiting.append(turn)
    try:
        await turn
    except BaseException:
        if turn.done() and not turn.cancelled():
            found.starting -= 1  # it had been called, and broken off at the same time
            _call(found)
        elif turn in found.waiting:
            found.waiting.remove(turn)
        raise


def _widen(found: _Model) -> None:
    quiet = time.monotonic() - QUIET
    while found.left and found.left[0] <= quiet:
        found.left.popleft()
        found.width += 1 / CALLS


def _call(found: _Model) -> None:
    """Whoever waits may start, as far as there is room."""
    _widen(found)
    while found.waiting and found.starting < found.width:
        turn = found.waiting.popleft()
        if not turn.done():
            found.starting += 1
            turn.set_result(None)
