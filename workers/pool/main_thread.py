"""How the pool's threads call functions in the main thread of the worker, which runs Celery's hub."""

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

log = logging.getLogger(__name__)


class Mailbox:
    """Calls that threads post and the main thread makes.

    The hub sleeps in poll() for up to a second. One byte in a pipe wakes it, however many calls are posted until it
    looks.

    Without a hub (if the broker's transport has no sockets to poll) the main thread cannot be woken. With `inline`,
    each call is made at once by the thread that posts it, one at a time, as in Celery's own thread pool.
    """

    def __init__(self, *, inline: bool) -> None:
        self._inline = inline
        self._turn = threading.RLock()
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._signalled = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def attach(self, hub: Any) -> None:
        """Have the hub deliver. Called again after each lost connection, when Celery has emptied the hub."""
        hub.add_reader(self._reader, self.deliver)

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function(*args)` in the main thread. Any thread may post."""
        if self._inline:
            with self._turn:
                _call(function, args)
            return
        self._calls.append((function, args))
        if not self._signalled:
            self._signalled = True
            with suppress(OSError):  # the worker has ended, or the pipe is full
                os.write(self._writer, b"\0")

    def deliver(self) -> None:
        """Make the posted calls."""
        with suppress(BlockingIOError):
            os.read(self._reader, 4096)
        # Cleared before looking: a post from here on wakes the hub again.
        self._signalled = False
        calls = self._calls
        while calls:
            try:
                function, args = calls.popleft()
            except IndexError:  # a signal handler has delivered it
                return
            _call(function, args)

    def wait(self, seconds: float) -> None:
        """Sleep until there is something to deliver, or for `seconds`."""
        if not self._calls:
            select.select([self._reader], [], [], seconds)

    def close(self) -> None:
        """Close the pipe. Nothing may be posted any more."""
        for descriptor in (self._reader, self._writer):
            with suppress(OSError):
                os.close(descriptor)


def _call(function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Call `function`. An exception doesn't keep the other calls from being made; SystemExit ends the worker."""
    try:
        function(*args)
    except Exception:
        log.exception("a callback of the pool failed")
