"""One task in the pool: its callbacks, its limits, and what Celery hears when it ends.

A coroutine runs on the event loop (coroutine_execution.py), any other function in a thread (thread_execution.py). Both
can be interrupted only inside the task's own function. Celery's tracer around it, which records the result, always runs
to its end.

The reason for an interruption decides how it counts: a time limit fails the task, a revocation ends it, and a worker
that stops puts its message back.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.exceptions import Reject, Terminated

from workers.pool.loop import EventLoop
from workers.pool.main_thread import Mailbox

log = logging.getLogger(__name__)

#: Why a task was interrupted.
StopReason = Literal["time limit", "revoked", "stopping"]


class TaskInterrupted(BaseException):
    """Raised in a thread to interrupt its task, as CancelledError is in a coroutine."""


@dataclass(frozen=True, slots=True)
class PoolTask:
    """What Celery hands to the pool: a function and its callbacks. Limits in seconds, None for no limit."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    on_accepted: Callable[[int, float], None]
    on_success: Callable[[Any], None]
    on_failure: Callable[[ExceptionInfo], None]
    on_timeout: Callable[[bool, float], None]
    soft: float | None
    hard: float | None


class Execution(ABC):
    """A task from the moment it is handed to the pool.

    The pool's `ended` is called in the worker's main thread. It frees the slot, and returns whether Celery has yet to
    hear of the end.
    """

    def __init__(
        self, number: int, pool_task: PoolTask, mailbox: Mailbox, ended: "Callable[[Execution], bool]"
    ) -> None:
        self.number = number
        self.pool_task = pool_task
        self.mailbox = mailbox
        self.ended = ended
        self.event_loop: EventLoop | None = None
        self.stop_reason: StopReason | None = None
        self.soft = False
        self.timers: list[asyncio.TimerHandle] = []

    def start(self, event_loop: EventLoop) -> None:
        """Begin, on this loop or in one of its threads."""
        self.event_loop = event_loop
        event_loop.call(self._begin)

    def terminate(self, signal: Any = None) -> None:
        """Interrupt it because it was revoked. Celery calls this on whatever the pool returns."""
        del signal
        self.interrupt("revoked")

    def interrupt(self, stop_reason: StopReason) -> None:
        """Interrupt it. The first reason counts."""
        if self.event_loop is not None:
            self.event_loop.call(self._interrupt, stop_reason)
        else:
            self.stop_reason = self.stop_reason or stop_reason

    # On the loop's thread

    def _begin(self) -> None:
        pool_task, loop = self.pool_task, self.event_loop.loop if self.event_loop else None
        assert loop is not None
        self.mailbox.post(pool_task.on_accepted, self.number, time.monotonic())
        try:
            if pool_task.soft:
                self.timers.append(loop.call_later(pool_task.soft, self._soft_limit))
            if pool_task.hard:
                self.timers.append(loop.call_later(pool_task.hard, self._interrupt, "time limit"))
            self._run()
        except Exception as exc:  # noqa: BLE001 - Celery logs it as the task's failure; the slot is free again
            self._end(None, exc)

    @abstractmethod
    def _run(self) -> None:
        """Run the task's function."""

    def _interrupt(self, stop_reason: StopReason) -> None:
        # Once only: a second cancellation would hit what the first one started, such as settling the call's money.
        if self.stop_reason is None:
            self.stop_reason = stop_reason
            self._break_off()

    @abstractmethod
    def _break_off(self) -> None:
        """Interrupt it now; `stop_reason` says why."""

    @abstractmethod
    def _soft_limit(self) -> None:
        """Raise SoftTimeLimitExceeded in the task."""

    def _soft_limit_passed(self) -> None:
        assert self.pool_task.soft is not None
        self.mailbox.post(self.pool_task.on_timeout, True, self.pool_task.soft)

    # Its end, reported in the main thread

    def _end(self, value: Any, exc: BaseException | None) -> None:
        for timer in self.timers:
            timer.cancel()
        self.mailbox.post(self._report, value, exc)

    def _report(self, value: Any, exc: BaseException | None) -> None:
        if not self.ended(self):
            return
        pool_task = self.pool_task
        if exc is None:
            pool_task.on_success(value)
        elif isinstance(exc, asyncio.CancelledError | TaskInterrupted) and self.stop_reason is not None:
            self.report_stopped(self.stop_reason)
        else:
            if isinstance(exc, asyncio.CancelledError | TaskInterrupted):
                # The pool didn't interrupt it: the task cancelled itself.
                exc = WorkerLostError(f"the task was cancelled from within: {exc!r}")
            pool_task.on_failure(_with_traceback(exc))

    def report_stopped(self, stop_reason: StopReason) -> None:
        """Report to Celery that the task was stopped."""
        exc: Exception
        match stop_reason:
            case "time limit":
                assert self.pool_task.hard is not None
                self.pool_task.on_timeout(False, self.pool_task.hard)
                return
            case "revoked":
                exc = Terminated("SIGTERM")
            case "stopping":
                exc = Reject("the worker is stopping", requeue=True)
        self.pool_task.on_failure(_with_traceback(exc))


def _with_traceback(exc: BaseException) -> ExceptionInfo:
    """The exception as Celery takes it, with a traceback. One that was never raised has none."""
    try:
        raise exc  # noqa: TRY301 - caught right below
    except BaseException:  # noqa: BLE001 - as above
        return ExceptionInfo()
