"""How many jobs of a model start at the same time in one worker: few at first, more as calls succeed, few after a 429.

A provider's limit may be unknown until it answers 429. Every job that has started by then, and hasn't written its
request, comes too late: the more there are, the longer a turn of the event loop takes, and the later the 429 is read.
So a start is slow, as TCP's is. After hundreds of calls without a 429 all jobs that arrive together start together, and
share their round trips to Redis (limits/client/pipeline.py).
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

#: How many jobs of a model may start at the same time at first.
FIRST: Final = 8

#: How many calls without a 429 allow one more.
CALLS: Final = 4

#: Seconds after which a sent call counts as one without a 429: a refusal comes sooner, an answer may take minutes.
QUIET: Final = 0.25

#: Seconds that a start may wait for its connection before it stops counting: a handshake across the world takes a
#: quarter of a second, and doesn't keep the worker busy.
CONNECTING: Final = 0.01

#: Turns of the event loop after that, more than connecting takes itself, so that a busy loop doesn't end starts early.
TURNS: Final = 12


@dataclass(slots=True)
class _Model:
    """How many may start together, how many do, when the latest calls were sent, and the jobs that wait."""

    width: float = FIRST
    starting: int = 0
    sent: deque[float] = field(default_factory=deque)
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class SlowStart:
    """The starts of one worker. A start ends when its request is written, or when its job must wait for something."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._starting: dict[str, str] = {}  # by delivery: its model
        self._connecting: deque[tuple[float, str]] = deque()  # since when (loop's clock), delivery

    async def turn(self, delivery: str, model: str) -> None:
        """Wait for a turn to start. It lasts until `end`."""
        found = self._models.setdefault(model, _Model())
        _start_next(found)  # those that wait already come first
        if found.waiting or found.starting >= found.width:
            await _wait(found)
        else:
            found.starting += 1
        self._starting[delivery] = model

    def sent(self, delivery: str, model: str) -> None:
        """End the start: its call is sent."""
        self._models.setdefault(model, _Model()).sent.append(time.monotonic())
        self.end(delivery)

    def end(self, delivery: str) -> None:
        """End the start, if it hasn't ended."""
        model = self._starting.pop(delivery, None)
        if model is None:
            return
        found = self._models[model]
        found.starting -= 1
        _start_next(found)
        if not found.starting and not found.sent and found.width == FIRST:
            del self._models[model]  # nothing was learned, and messages may name any model

    def connecting(self, delivery: str) -> None:
        """Note that the start waits only for its connection."""
        loop = asyncio.get_running_loop()
        if not self._connecting:
            loop.call_later(CONNECTING, self._check)
        self._connecting.append((loop.time(), delivery))

    def _check(self) -> None:
        """End the starts that have had their time to connect. One timer serves all of them in turn."""
        loop = asyncio.get_running_loop()
        while self._connecting and self._connecting[0][0] + CONNECTING <= loop.time():
            self._connected(self._connecting.popleft()[1], TURNS)
        if self._connecting:
            loop.call_at(self._connecting[0][0] + CONNECTING, self._check)

    def _connected(self, delivery: str, turns: int) -> None:
        if not turns:
            self.end(delivery)
        elif delivery in self._starting:
            asyncio.get_running_loop().call_soon(self._connected, delivery, turns - 1)

    def throttled(self, model: str) -> None:
        """Start over with few: a call of the model got a 429."""
        if found := self._models.get(model):
            found.width = FIRST
            found.sent.clear()


async def _wait(found: _Model) -> None:
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    found.waiting.append(turn)
    try:
        await turn
    except BaseException:
        if turn.done() and not turn.cancelled():
            found.starting -= 1  # its turn came and it was cancelled at the same time
            _start_next(found)
        elif turn in found.waiting:
            found.waiting.remove(turn)
        raise


def _widen(found: _Model) -> None:
    quiet = time.monotonic() - QUIET
    while found.sent and found.sent[0] <= quiet:
        found.sent.popleft()
        found.width += 1 / CALLS


def _start_next(found: _Model) -> None:
    """Let waiting jobs start, up to the width."""
    _widen(found)
    while found.waiting and found.starting < found.width:
        turn = found.waiting.popleft()
        if not turn.done():
            found.starting += 1
            turn.set_result(None)
