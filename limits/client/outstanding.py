"""Calls of an event loop that have no answer yet: waiting to be written, written, or deferred.

A call is deferred if the server refuses it for now. It is sent again over the same connection, which may still
answer other calls.
"""

import asyncio
import logging
import time
from collections import deque
from typing import Any, Final

from redis.exceptions import NoScriptError

from limits.client.pipeline import Pending
from limits.client.replies import PASSING, as_limits_error, refuses_for_now
from limits.errors import LimitsError, ScriptError, ServerUnavailable

log = logging.getLogger(__name__)

_RETRY_AFTER: Final = 0.25
"""Seconds until a deferred call is sent again."""

_LOG_EVERY: Final = 60.0
"""Seconds between two log lines about deferred calls."""


class Outstanding:
    """The calls of one `AsyncServer`. At most `most` may be outstanding before `add` blocks."""

    def __init__(self, most: int) -> None:
        self.wake = asyncio.Event()
        """Set when calls wait to be written."""
        self.written: deque[list[Pending]] = deque()
        """Groups that the server has not answered, in the order of their replies."""
        self._waiting: deque[Pending] = deque()
        self._deferred: list[tuple[Pending, Exception]] = []
        self._retry: asyncio.TimerHandle | None = None
        self._log_at = 0.0
        self._most = most
        self._unanswered = 0  # the written calls and the deferred ones
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._waiting) + self._unanswered

    async def wait_for_room(self, deadline: float) -> None:
        """Block while too many calls are outstanding. ServerUnavailable at `deadline` (monotonic seconds)."""
        while len(self) >= self._most:
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise ServerUnavailable(
                    f"{self._most} calls to Redis are waiting already, and none was answered in time."
                ) from None

    def add(self, *calls: Pending) -> None:
        """Have calls written, the first time or again."""
        self._waiting.extend(calls)
        self.wake.set()

    def take_waiting(self) -> list[Pending]:
        """Take all calls that wait to be written and still have a caller."""
        batch = [pending for pending in self._waiting if not pending.future.done()]
        self._waiting.clear()
        now = time.monotonic()
        for pending in batch:
            pending.written = now
        return batch

    def add_written(self, group: list[Pending]) -> None:
        self.written.append(group)
        self._unanswered += len(group)

    def take_reply(self, reply: Any) -> None:
        """Answer the oldest written group. Raises the reply if it means that the connection is of no more use."""
        group = self.written.popleft()
        self._unanswered -= len(group)
        if not self._room.is_set():
            self._room.set()
        if isinstance(reply, Exception):
            self._take_error(group, reply)
        elif len(group) == 1:
            _answer(group[0], reply)
        elif isinstance(reply, list) and len(reply) == len(group):
            for pending, answer in zip(group, reply, strict=True):
                _answer(pending, answer)
        else:
            self._send_each_alone(group)

    def _take_error(self, group: list[Pending], error: Exception) -> None:
        [first, *others] = group
        if isinstance(error, PASSING):
            self.written.appendleft(group)
            self._unanswered += len(group)
            raise error
        if refuses_for_now(error):
            self._defer(group, error)
            return
        if isinstance(error, NoScriptError) and first.call is not None:
            # The first call sends the script's source. The others follow it.
            first.command = ("EVAL", first.call.script.source, *first.command[2:])
            first.alone = True
            self.add(*group)
        elif others:
            # One ask may be at fault, and nothing has changed.
            self._send_each_alone(group)
        else:
            _fail(first, as_limits_error(error, first.name))

    def take_unsendable(self, group: list[Pending], error: Exception) -> None:
        """A group could not be packed: one of its arguments is at fault."""
        [first, *others] = group
        if others:
            self._send_each_alone(group)
        else:
            words = f"{first.name}: an argument cannot be sent to Redis ({type(error).__name__}: {error})."
            _fail(first, ScriptError(words))

    def _send_each_alone(self, group: list[Pending]) -> None:
        for pending in group:
            pending.alone = True
        self.add(*group)

    def _defer(self, group: list[Pending], error: Exception) -> None:
        self._deferred.extend((pending, error) for pending in group)
        self._unanswered += len(group)
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(_RETRY_AFTER, self.send_deferred)
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + _LOG_EVERY
            log.warning("%d calls to Redis wait: %s", len(self._deferred), as_limits_error(error, group[0].name))

    def send_deferred(self) -> None:
        """Have deferred calls written again. Those that are overdue fail."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        now = time.monotonic()
        for pending, error in self._deferred:
            if pending.deadline <= now:
                _fail(pending, as_limits_error(error, pending.name))
            elif not pending.future.done():
                self._waiting.append(pending)
        self._unanswered -= len(self._deferred)
        self._deferred.clear()
        self.wake.set()
        self._room.set()

    def lose_connection(self) -> None:
        """Have everything written again, over the next connection."""
        self.send_deferred()
        self._waiting.extendleft(reversed([pending for group in self.written for pending in group]))
        self.written.clear()
        self._unanswered = 0

    def fail_overdue(self, now: float, reason: str) -> None:
        """Fail the waiting calls whose deadline has passed."""
        kept: deque[Pending] = deque()
        for pending in self._waiting:
            if pending.future.done():
                continue
            if pending.deadline <= now:
                _fail(pending, ServerUnavailable(reason))
            else:
                kept.append(pending)
        self._waiting = kept
        self.wake.set()
        self._room.set()

    def fail_overdue_written(self, now: float) -> None:
        """Fail the written calls whose deadline has passed. Their replies may still come."""
        for pending in (pending for group in self.written for pending in group):
            if pending.deadline <= now:
                _fail(pending, ServerUnavailable("The Redis server gave no answer in time."))

    def fail_written(self, error: LimitsError) -> None:
        for pending in (pending for group in self.written for pending in group):
            _fail(pending, error)
        self.written.clear()

    def fail_all(self, error: LimitsError) -> None:
        self.fail_written(error)
        for pending in self._waiting:
            _fail(pending, error)
        self._waiting.clear()
        self._unanswered = 0
        self._room.set()


def _answer(pending: Pending, reply: Any) -> None:
    if not pending.future.done():
        pending.future.set_result(reply)


def _fail(pending: Pending, error: LimitsError) -> None:
    if not pending.future.done():
        pending.future.set_exception(error)
