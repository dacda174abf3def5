"""A task that is a synchronous function, in a thread."""

import contextvars
import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from workers.pool.coroutine import host, set_owner
from workers.pool.execution import Execution, TaskInterrupted


class ThreadExecution(Execution):
    """A task whose function is synchronous: the tracer runs in a thread.

    An interruption is an exception raised in the thread at its next Python instruction. A thread that waits in C code,
    such as a read from a socket, finishes that wait first.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.thread: int | None = None
        self.lock = threading.Lock()

    def _run(self) -> None:
        assert self.event_loop is not None
        self.event_loop.tasks.submit(self._main)

    def _main(self) -> None:
        context = contextvars.copy_context()
        context.run(set_owner, self)
        context.run(host.set, self)
        try:
            value = context.run(self.pool_task.target, *self.pool_task.args)
        except BaseException as exc:  # noqa: BLE001 - reported to Celery, whatever it is
            self._ended(None, exc)
        else:
            self._ended(value, None)

    def _ended(self, value: Any, exc: BaseException | None) -> None:
        event_loop = self.event_loop
        assert event_loop is not None
        with suppress(RuntimeError):  # the loop has ended, and with it the interest in this task
            event_loop.loop.call_soon_threadsafe(self._end, value, exc)

    def run_body(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the task's function. Only here can it be interrupted."""
        if self.thread is not None:
            return function(*args, **kwargs)
        with self.lock:
            if self.stop_reason is not None:
                raise TaskInterrupted(self.stop_reason)
            self.thread = threading.get_ident()
        try:
            return function(*args, **kwargs)
        finally:
            with self.lock:
                _raise_in(self.thread, None)
                self.thread = None

    def _break_off(self) -> None:
        self._raise(TaskInterrupted)

    def _soft_limit(self) -> None:
        if self.stop_reason is None and self._raise(SoftTimeLimitExceeded):
            self._soft_limit_passed()

    def _raise(self, kind: type[BaseException]) -> bool:
        with self.lock:
            if self.thread is None:
                return False
            _raise_in(self.thread, kind)
            return True


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    """Raise an exception in another thread. None takes back one that was not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind) if kind else None)
