"""Coroutines as Celery tasks, on pools that know nothing of them: prefork, threads, gevent, solo.

Each process has one event loop, in a thread of its own. The pool's thread or greenlet hands its coroutine over and
waits; a task's limits and its revocation reach it through that wait.
"""

import asyncio
import inspect
import os
import threading
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any

from celery import Task

#: The request of the task that runs here. `Task.request` is found by thread, and a coroutine runs in another one.
current_request: ContextVar[Any] = ContextVar("current_request")


class CoroutineTask(Task):  # type: ignore[misc]  # Celery has no types
    """A task whose function may be `async def`."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function; where it is a coroutine, on the process's loop."""
        token = current_request.set(self.request)
        try:
            result = super().__call__(*args, **kwargs)
            return _Loop.current().wait(result) if inspect.iscoroutine(result) else result
        finally:
            current_request.reset(token)


class _Loop:
    """A running loop in a daemon thread."""

    _lock = threading.Lock()
    _current: "_Loop | None" = None

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
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
