"""An event loop in a thread of its own, with threads beside it for synchronous tasks."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from workers.pool.coroutine import end_loop
from workers.pool.threads import Loop, Threads

log = logging.getLogger(__name__)

#: Threads for synchronous tasks.
TASK_THREADS = 32

#: Seconds that a loop's connections have to close.
CLOSING = 5.0


class EventLoop:
    """Runs until `end`. `app` becomes the current Celery app in its threads."""

    def __init__(self, app: Any) -> None:
        self.loop = Loop(app.set_current)
        self.tasks = Threads(TASK_THREADS, "task", app.set_current)
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._scheduled = False
        self._app = app
        self.thread = threading.Thread(target=self._run, name="asyncio-pool", daemon=True)
        self.thread.start()

    @property
    def thread_count(self) -> int:
        """The number of threads beside the loop's own."""
        return self.tasks.count + sum(threads.count for threads in self.loop.threads.values())

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function(*args)` on the loop. A burst of calls wakes it once."""
        self._calls.append((function, args))
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon_threadsafe(self._make_calls)

    def end(self) -> None:
        """Close the loop's connections and threads. Nothing may run on it any more."""
        if self.loop.is_closed():
            return
        closing = asyncio.run_coroutine_threadsafe(end_loop(), self.loop)
        try:
            closing.result(CLOSING)
        except TimeoutError:
            log.warning("connections did not close within %g s", CLOSING)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(CLOSING)
        self.tasks.shutdown(cancel_futures=True)

    def _run(self) -> None:
        self._app.set_current()
        asyncio.set_event_loop(self.loop)
        try:
            while not self._runs_until_stopped():
                pass
        finally:
            self.loop.close()

    def _runs_until_stopped(self) -> bool:
        """Run the loop. False if SystemExit or KeyboardInterrupt ended it: asyncio lets these two through."""
        try:
            self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as exc:
            log.error("a coroutine raised %s and has ended; the worker continues", type(exc).__name__)  # noqa: TRY400
            return False
        return True

    def _make_calls(self) -> None:
        # Cleared first: a call that arrives from here on schedules again.
        self._scheduled = False
        while self._calls:
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                log.exception("a call on the event loop failed")
