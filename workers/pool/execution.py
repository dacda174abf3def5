"""One task in the pool: where it runs, how it is interrupted, and how it ended.

A coroutine runs on the event loop, any other function in a thread. Both are interrupted in the task's own function
only: Celery's tracer around it, which records what has happened, always runs to its end.

What is asked of it while it runs decides how it counts if it is broken off: a time limit is a failure of the task, a
revocation ends it, and a worker that stops puts its message back.
"""

import asyncio
import contextvars
import ctypes
import inspect
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.exceptions import Reject, SoftTimeLimitExceeded, Terminated

from workers.pool.bridge import Bridge
from workers.pool.coroutine import host, own
from workers.pool.loop import EventLoop
from workers.pool.main_thread import Mailbox

log = logging.getLogger(__name__)

Fate = Literal["time limit", "revoked", "stopping"]

#: Seconds until a coroutine that did not end when it was cancelled is cancelled again.
CANCEL_AGAIN = 10.0


class BrokenOff(BaseException):
    """Raised in a thread to break its task off, as CancelledError is in a coroutine."""


@dataclass(frozen=True, slots=True)
class Order:
    """What Celery asks a pool to do, and whom to tell. Limits in seconds; None: no limit."""

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

    `ended` is the pool's, called in the worker's main thread: it gives the place to the next, and says whether
    Celery is still to be told.
    """

    def __init__(self, number: int, order: Order, mailbox: Mailbox, ended: "Callable[[Execution], bool]") -> None:
        self.number = number
        self.order = order
        self.mailbox = mailbox
        self.ended = ended
        self.place: EventLoop | None = None
        self.fate: Fate | None = None
        self.soft = False
        self.timers: list[asyncio.TimerHandle] = []

    def start(self, place: EventLoop) -> None:
        """Begin, on this loop or in one of its threads."""
        self.place = place
        place.call(self._begin)

    def terminate(self, signal: Any = None) -> None:
        """Break it off because it was revoked. Celery's name for it: what the pool returns must have it."""
        del signal
        self.interrupt("revoked")

    def interrupt(self, fate: Fate) -> None:
        """Break it off; the first reason counts."""
        if self.place is not None:
            self.place.call(self._interrupt, fate)
        else:
            self.fate = self.fate or fate

    # On the loop's thread

    def _begin(self) -> None:
        order, loop = self.order, self.place.loop if self.place else None
        assert loop is not None
        self.mailbox.post(order.on_accepted, self.number, time.monotonic())
        try:
            if order.soft:
                self.timers.append(loop.call_later(order.soft, self._soft_limit))
            if order.hard:
                self.timers.append(loop.call_later(order.hard, self._interrupt, "time limit"))
            self._run()
        except Exception as exc:  # noqa: BLE001 - whatever it is, its place in the pool is free again
            self._end(None, exc)

    @abstractmethod
    def _run(self) -> None:
        """Run the task's function."""

    def _interrupt(self, fate: Fate) -> None:
        # Once only: a second cancellation would hit what the first one has begun, such as settling the call's money.
        if self.fate is None:
            self.fate = fate
            self._break_off()

    @abstractmethod
    def _break_off(self) -> None:
        """End it before its end; `fate` says why."""

    @abstractmethod
    def _soft_limit(self) -> None:
        """Its soft limit has passed: let the task know."""

    def _soft_limit_passed(self) -> None:
        assert self.order.soft is not None
        self.mailbox.post(self.order.on_timeout, True, self.order.soft)

    # Its end, told in the main thread

    def _end(self, value: Any, exc: BaseException | None) -> None:
        for timer in self.timers:
            timer.cancel()
        self.mailbox.post(self._tell, value, exc)

    def _tell(self, value: Any, exc: BaseException | None) -> None:
        if not self.ended(self):
            return
        order = self.order
        if exc is None:
            order.on_success(value)
        elif isinstance(exc, asyncio.CancelledError | BrokenOff) and self.fate is not None:
            self.tell_fate(self.fate)
        else:
            if isinstance(exc, asyncio.CancelledError | BrokenOff):
                # Nobody here has asked for it: the task cancelled itself.
                exc = WorkerLostError(f"the task was cancelled from within: {exc!r}")
            order.on_failure(_told(exc))

    def tell_fate(self, fate: Fate) -> None:
        """Tell Celery that the task did not end by itself."""
        exc: Exception
        match fate:
            case "time limit":
                assert self.order.hard is not None
                self.order.on_timeout(False, self.order.hard)
                return
            case "revoked":
                exc = Terminated("SIGTERM")
            case "stopping":
                exc = Reject("the worker is stopping", requeue=True)
        self.order.on_failure(_told(exc))


def _told(exc: BaseException) -> ExceptionInfo:
    """The exception as Celery takes it, which needs a traceback: one that was never raised has none."""
    try:
        raise exc  # noqa: TRY301 - to be caught right below
    except BaseException:  # noqa: BLE001 - as above
        return ExceptionInfo()


class CoroutineExecution(Execution):
    """A task whose function is a coroutine: the tracer in a greenlet on the loop's thread."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.task: asyncio.Task[None] | None = None
        self.bridge: Bridge | None = None
        self.state: Literal["before", "in", "after"] = "before"

    def _run(self) -> None:
        assert self.place is not None
        context = contextvars.copy_context()
        context.run(own, self)
        context.run(host.set, self)
        call = partial(self.order.target, *self.order.args)
        self.bridge = Bridge(call, context, self.place.loop.threads["results"])
        self.task = self.place.loop.create_task(self._main(self.bridge), context=context)

    async def _main(self, bridge: Bridge) -> None:
        try:
            value = await bridge
        except BaseException as exc:  # noqa: BLE001 - told to Celery, whatever it is
            self._end(None, exc)
        else:
            self._end(value, None)
        self.bridge = self.task = None

    def body(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the task's function and wait for its coroutine; only here can it be interrupted."""
        result = function(*args, **kwargs)
        if self.state != "before" or not inspect.iscoroutine(result):
            return result
        bridge = self.bridge
        assert bridge is not None
        if self.fate is not None:
            result.close()
            raise asyncio.CancelledError(self.fate)
        self.state = "in"
        try:
            return bridge.wait(result)
        finally:
            self.state = "after"

    def _break_off(self) -> None:
        if self.state != "in" or self.task is None:
            return
        assert self.place is not None
        if self.bridge is not None:
            self.bridge.interruption = None
        self.task.cancel(self.fate)
        self.timers.append(self.place.loop.call_later(CANCEL_AGAIN, self._still_there))

    def _still_there(self) -> None:
        if self.state == "in":
            log.warning("%s does not end although it was cancelled (%s)", self.order.args[1], self.fate)
            self._break_off()

    def _soft_limit(self) -> None:
        if self.state == "in" and self.fate is None and self.task is not None and self.bridge is not None:
            self._soft_limit_passed()
            self.bridge.interruption = SoftTimeLimitExceeded(self.order.soft)
            self.task.cancel()


class ThreadExecution(Execution):
    """A task whose function is no coroutine: the tracer in a thread.

    A thread is interrupted by an exception that is raised in it at its next step of Python: one that waits in a
    call of C, such as a read from a socket, ends its wait first.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.thread: int | None = None
        self.lock = threading.Lock()

    def _run(self) -> None:
        assert self.place is not None
        self.place.tasks.submit(self._main)

    def _main(self) -> None:
        context = contextvars.copy_context()
        context.run(own, self)
        context.run(host.set, self)
        try:
            value = context.run(self.order.target, *self.order.args)
        except BaseException as exc:  # noqa: BLE001 - told to Celery, whatever it is
            self._ended(None, exc)
        else:
            self._ended(value, None)

    def _ended(self, value: Any, exc: BaseException | None) -> None:
        place = self.place
        assert place is not None
        with suppress(RuntimeError):  # the loop has been ended: nobody waits for this task any more
            place.loop.call_soon_threadsafe(self._end, value, exc)

    def body(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the task's function; only here can it be interrupted."""
        if self.thread is not None:
            return function(*args, **kwargs)
        with self.lock:
            if self.fate is not None:
                raise BrokenOff(self.fate)
            self.thread = threading.get_ident()
        try:
            return function(*args, **kwargs)
        finally:
            with self.lock:
                _raise_in(self.thread, None)
                self.thread = None

    def _break_off(self) -> None:
        self._raise(BrokenOff)

    def _soft_limit(self) -> None:
        if self.fate is None and self._raise(SoftTimeLimitExceeded):
            self._soft_limit_passed()

    def _raise(self, kind: type[BaseException]) -> bool:
        with self.lock:
            if self.thread is None:
                return False
            _raise_in(self.thread, kind)
            return True


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    """Raise an exception in another thread; None takes back what has not been raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind) if kind else None)
