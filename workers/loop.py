"""An event loop in a thread of its own, and the threads beside it for what would block it."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workers.coroutine import end_loop

log = logging.getLogger(__name__)

#: Threads for tasks that are no coroutines, and for publishing and storing results. Apart, since tasks that
#: wait for something slow must not keep a finished one from being recorded.
TASK_THREADS, ASIDE_THREADS = 32, 4

#: Seconds that the connections of a loop have to close.
CLOSING = 5.0


class EventLoop:
    """Runs until it is ended. `app` becomes the current Celery app of its threads."""

    def __init__(self, app: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.tasks = ThreadPoolExecutor(TASK_THREADS, "task", initializer=app.set_current)
        self.aside = ThreadPoolExecutor(ASIDE_THREADS, "aside", initializer=app.set_current)
        self.loop.set_default_executor(self.aside)
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._scheduled = False
        self._app = app
        self.thread = threading.Thread(target=self._run, name="asyncio-pool", daemon=True)
        self.thread.start()

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Have `function(*args)` called on the loop; a burst of calls wakes it once."""
        self._calls.append((function, args))
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon_threadsafe(self._make_calls)

    def end(self) -> None:
        """Close what is open on the loop, and let its threads go. Nothing may run on it any more."""
        if self.loop.is_closed():
            return
        closing = asyncio.run_coroutine_threadsafe(end_loop(), self.loop)
        try:
            closing.result(CLOSING)
        except TimeoutError:
            log.warning("connections could not be closed within %g s", CLOSING)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(CLOSING)
        self.tasks.shutdown(wait=False, cancel_futures=True)
        self.aside.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        self._app.set_current()
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def _make_calls(self) -> None:
        # Lowered first: whoever calls from here on schedules anew.
        self._scheduled = False
        while self._calls:
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                log.exception("a call on the event loop failed")
