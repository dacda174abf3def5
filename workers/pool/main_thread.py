"""From the pool's threads to Celery's hub: calls, delivered in batches, at once."""

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
    """Calls that threads post and the worker's main thread makes.

    The hub sleeps in poll(), up to a second where nothing happens. A byte in a pipe wakes it, one byte for however many
    calls are posted until it has looked.

    Without a hub (a broker whose transport has no sockets to poll) the main thread cannot be woken: then calls
    are made where they are posted, one at a time, as Celery's own thread pool makes them.
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
        """Have the hub deliver. Celery calls this again after each lost connection, with the hub emptied."""
        hub.add_reader(self._reader, self.deliver)

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Have `function(*args)` called in the main thread. May be called by any thread."""
        if self._inline:
            with self._turn:
                _call(function, args)
            return
        self._calls.append((function, args))
        if not self._signalled:
            self._signalled = True
            with suppress(OSError):  # the worker has ended, or the pipe is full of wake-ups
                os.write(self._writer, b"\0")

    def deliver(self) -> None:
        """Make the calls that are there."""
        with suppress(BlockingIOError):
            os.read(self._reader, 4096)
        # Lowered before looking: whoever posts from here on wakes the hub anew.
        self._signalled = False
        calls = self._calls
        while calls:
            try:
                function, args = calls.popleft()
            except IndexError:  # a signal handler has delivered meanwhile
                return
            _call(function, args)

    def wait(self, seconds: float) -> None:
        """Sleep until there is something to deliver, or for `seconds`."""
        if not self._calls:
            select.select([self._reader], [], [], seconds)

    def close(self) -> None:
        """Nobody posts any more."""
        for descriptor in (self._reader, self._writer):
            with suppress(OSError):
                os.close(descriptor)


def _call(function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Call, and never let one task's trouble keep the others' news from the worker. SystemExit is how a worker ends."""
    try:
        function(*args)
    except Exception:
        log.exception("a callback of the pool failed")
