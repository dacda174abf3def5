"""Coroutines as Celery tasks, on every pool.

On our own pool (pool.py) a coroutine runs on the loop that its tracer runs on. Pools that know nothing of coroutines
(prefork, threads, gevent, solo) get one event loop a process, in a thread of its own: the pool's thread or
greenlet hands its coroutine over and waits; a task's limits and its revocation reach it through that wait.

`self.request` and `current_task` are right in the coroutine and in every asyncio task that it starts. Celery finds
them by greenlet; here they are found by a context variable, which asyncio hands down.
"""

import asyncio
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from celery import Task
from celery._state import _task_stack
from celery.worker import state
from greenlet import getcurrent

from workers.pool.threads import Loop


class Host(Protocol):
    """What runs a task's body on our own pool."""

    def body(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the task's function; where it is a coroutine, to its end."""


#: What hosts the task that runs here; None on pools that know nothing of coroutines.
host: ContextVar[Host | None] = ContextVar("host", default=None)

#: The key under which Celery's stacks keep the task that runs here, and its request.
_owner: ContextVar[Any] = ContextVar("owner", default=None)

#: The request of the task that runs here.
current_request: ContextVar[Any] = ContextVar("current_request")


def worker_stops() -> bool:
    """Whether this worker has been told to stop, and only waits for what runs."""
    return state.should_stop is not None and state.should_stop is not False


def _whose() -> Any:
    return _owner.get() or getcurrent()


_task_stack.__ident_func__ = _whose


def own(owner: Any) -> None:
    """Let Celery find the current task and its request by `owner`, here and in what is started from here."""
    _owner.set(owner)


class CoroutineTask(Task):  # type: ignore[misc]  # Celery has no types
    """A task whose function may be `async def`."""

    abstract = True

    @classmethod
    def bind(cls, app: Any) -> Any:
        """Bind the task to its app, and its requests to our key."""
        bound = super().bind(app)
        cls.request_stack.__ident_func__ = _whose
        return bound

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function; where it is a coroutine, to its end.

        Called by another task, inside a coroutine, it gives the coroutine to be awaited, as any `async def` does.
        """
        run = super().__call__
        where = host.get()
        if where is not None:
            request = current_request.set(self.request)
            try:
                return where.body(run, args, kwargs)
            finally:
                current_request.reset(request)
        # Not whether a loop runs here: under gevent the thread of the loop is a greenlet of this very thread.
        if not inspect.iscoroutinefunction(self.run) or _owner.get() is not None:
            return run(*args, **kwargs)
        owner, request = _owner.set(_whose()), current_request.set(self.request)
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
        """This process's loop; a forked child starts one of its own."""
        with cls._lock:
            if cls._current is None or cls._current.pid != os.getpid():
                cls._current = cls()
            return cls._current

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end; where the wait is broken off, so is the coroutine."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


_closers: "WeakKeyDictionary[asyncio.AbstractEventLoop, list[Callable[[], Awaitable[None]]]]" = WeakKeyDictionary()


def at_loop_end(close: Callable[[], Awaitable[None]]) -> None:
    """Have `close` awaited when the running loop of our pool is about to end."""
    _closers.setdefault(asyncio.get_running_loop(), []).append(close)


async def end_loop() -> None:
    """Close what was opened on the running loop."""
    for close in _closers.pop(asyncio.get_running_loop(), []):
        with suppress(Exception):
            await close()
