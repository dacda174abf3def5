"""Coroutines as Celery tasks, on every pool.

On our own pool (pool.py) a coroutine runs on its tracer's loop. Other pools (prefork, threads, gevent, solo) get one
event loop a process, in a thread of its own. Their thread or greenlet hands the coroutine over and waits, and a time
limit or revocation interrupts that wait.

`self.request` and `current_task` are right in the coroutine and in every asyncio task that it starts. Celery would find
them by greenlet; here a context variable finds them, which asyncio passes on.
"""

import asyncio
import inspect
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from celery import Task
from celery._state import _task_stack
from celery.worker import state
from greenlet import getcurrent

from workers.pool.threads import Loop

log = logging.getLogger(__name__)


class Host(Protocol):
    """What runs a task's function on our own pool."""

    def run_body(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the task's function, and its coroutine to the end."""


#: The host of the current task; None on other pools.
host: ContextVar[Host | None] = ContextVar("host", default=None)

#: The key of the current task and its request in Celery's stacks.
_owner: ContextVar[Any] = ContextVar("owner", default=None)

#: The current task's request.
current_request: ContextVar[Any] = ContextVar("current_request")


def worker_is_stopping() -> bool:
    """Whether this worker is stopping and only waits for running tasks."""
    return state.should_stop is not None and state.should_stop is not False


def _task_key() -> Any:
    return _owner.get() or getcurrent()


_task_stack.__ident_func__ = _task_key


def set_owner(owner: Any) -> None:
    """Let Celery find the current task and request by `owner`, in this context and in those it starts."""
    _owner.set(owner)


class CoroutineTask(Task):  # type: ignore[misc]  # Celery has no types
    """A task whose function may be `async def`."""

    abstract = True

    @classmethod
    def bind(cls, app: Any) -> Any:
        """Bind the task to its app, and its requests to our key."""
        bound = super().bind(app)
        cls.request_stack.__ident_func__ = _task_key
        return bound

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function, and its coroutine to the end.

        Called by another task inside a coroutine, it returns the coroutine, as any `async def` does.
        """
        run = super().__call__
        where = host.get()
        if where is not None:
            request = current_request.set(self.request)
            try:
                return where.run_body(run, args, kwargs)
            finally:
                current_request.reset(request)
        # This doesn't ask for a running loop: under gevent the loop's thread is a greenlet of this thread.
        if not inspect.iscoroutinefunction(self.run) or _owner.get() is not None:
            return run(*args, **kwargs)
        owner, request = _owner.set(_task_key()), current_request.set(self.request)
        try:
            return _Loop.current().wait(run(*args, **kwargs))
        finally:
            current_request.reset(request)
            _owner.reset(owner)


class _Loop:
    """A running loop in a daemon thread."""

    _lock = threading.Lock()
    _current: "_Loop | None" = None

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = Loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="coroutines", daemon=True)
        self.thread.start()

    @classmethod
    def current(cls) -> "_Loop":
        """This process's loop. A forked child starts its own."""
        with cls._lock:
            if cls._current is None or cls._current.pid != os.getpid():
                cls._current = cls()
            return cls._current

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end. If the wait is interrupted, so is the coroutine."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


_closers: "WeakKeyDictionary[asyncio.AbstractEventLoop, list[Callable[[], Awaitable[None]]]]" = WeakKeyDictionary()


def at_loop_end(close: Callable[[], Awaitable[None]]) -> None:
    """Await `close` before the running loop of our pool ends."""
    _closers.setdefault(asyncio.get_running_loop(), []).append(close)


async def end_loop() -> None:
    """Await everything that `at_loop_end` registered for the running loop. One that fails doesn't keep the others."""
    for close in _closers.pop(asyncio.get_running_loop(), []):
        try:
            await close()
        except Exception:
            log.exception("could not close what belongs to an event loop")
