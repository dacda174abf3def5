"""What this process has claimed: kept alive, acknowledged, put back. One custody a broker and process.

It outlives connections. A connection that drops says nothing about the calls in flight, so what is claimed stays
claimed, its heartbeat goes on over the next connection, and what was to be told meanwhile is told then. All of it
happens in a thread of its own, which neither a busy event loop nor a full pool can starve.

A claimed message is in custody for as long as somebody holds its `Message`. When Celery drops a request that it will
never run, on reconnecting for example, the message is collected as garbage and goes back to its queue.
"""

import atexit
import logging
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache, partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeVar

from limits.client.connection import Server
from limits.client.scripts import Call
from limits.errors import ScriptError, ServerUnavailable
from workers.transport.broker import Broker, Delay, Swept
from workers.transport.message import queue_of
from workers.transport.queues import lists, workflow_of

if TYPE_CHECKING:
    import redis

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds: between two sweeps of all workers together; acknowledgements are gathered for so long; until the next try
#: when the server was away.
SWEEP_EVERY, GATHER, AFTER_TROUBLE = 0.25, 0.01, 0.5

#: Seconds that a worker whose turn it was not waits longer, at the most: who has swept goes on for a while, the others
#: stand by.
STAND_BY: Final = 1.5

#: Seconds between two looks for messages of stock producers, by whoever has swept last. What they publish starts so
#: much later on an idle worker, at the most.
LOOK_EVERY: Final = SWEEP_EVERY / 4

#: Seconds between two looks of a worker that is not on duty, at queues that the one on duty may not follow; and up to
#: how many queues count as chosen for this worker.
LOOK_APART: Final = 0.5
CHOSEN: Final = 32

#: Seconds that a count of what is in custody is good for.
COUNTED: Final = 0.05

#: Messages a script call, so that none holds the server up.
STEP: Final = 200

#: Lists that one call looks for; and the most queues of one look: of more, the looks take turns.
LOOK_STEP, LOOK_MOST = 1_000, 500

#: Every so many looks include the lists of lower priorities: their messages start half a second later, at the most.
FULL_LOOK: Final = 8

#: Seconds that the end of the process waits for its last words to reach the server.
LAST_WORDS: Final = 5.0


class InFlight:
    """The messages that this process has claimed of one broker.

    `connect` opens a client of the server that decodes nothing; `timeout` is the visibility timeout in seconds.
    """

    def __init__(self, broker: Broker, connect: Callable[[], "redis.Redis"], timeout: float) -> None:
        self.broker = broker
        self.timeout = timeout
        self.watched: set[str] = set()
        self._connect = connect
        self._held: dict[str, weakref.ref[Any]] = {}
        self._acks: deque[str] = deque()
        self._delays: deque[tuple[float, str, str]] = deque()  # when due on the monotonic clock, tag, message
        self._back: deque[str] = deque()
        self._last: deque[str] = deque()
        self._graves: deque[tuple[str, str]] = deque()
        self._server: Server | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._looks = 0
        self._counted, self._counted_at = 0, 0.0
        self._away = False

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, tag: object) -> bool:
        return tag in self._held

    def count(self, queues: Collection[str]) -> int:
        """How many messages of these queues are in custody, or were a moment ago."""
        now = time.monotonic()
        if now - self._counted_at > COUNTED:
            self._counted_at = now
            self._counted = sum(queue_of(tag) in queues for tag in list(self._held))
        return self._counted

    def message(self, tag: str) -> Any:
        """The message in custody under this tag, or None."""
        reference = self._held.get(tag)
        return reference() if reference is not None else None

    # What the consuming thread tells; none of this waits for the server.

    def hold(self, tag: str, message: Any) -> None:
        """Take a claimed message into custody."""
        self._held[tag] = weakref.ref(message, partial(self._dropped, tag))

    def acknowledge(self, tag: str) -> None:
        """The message's work is done."""
        self._held.pop(tag, None)
        self._acks.append(tag)
        self._nudge()

    def delay(self, tag: str, seconds: float, message: str = "") -> None:
        """Set the message aside for so long; as `message`, or as it is."""
        self._held.pop(tag, None)
        self._delays.append((time.monotonic() + seconds, tag, message))
        self._nudge()

    def give_back(self, tags: Iterable[str], *, last: bool = False) -> None:
        """Put messages back into their queues: before all others, or after them."""
        for tag in tags:
            self._held.pop(tag, None)
            (self._last if last else self._back).append(tag)
        self._nudge()

    def bury(self, tag: str, reason: str) -> None:
        """Set a message aside that cannot be read."""
        self._held.pop(tag, None)
        self._graves.append((tag, reason))
        self._nudge()

    def _dropped(self, tag: str, reference: Any) -> None:
        # Called by the garbage collector, wherever it happens to run: no lock may be taken here.
        del reference
        if self._held.pop(tag, None) is not None:
            self._back.append(tag)

    def _nudge(self) -> None:
        if not self._wake.is_set():
            self._wake.set()

    # The thread

    def start(self) -> None:
        """Begin to keep; once started, further calls change nothing."""
        if self._thread is None:
            with self._starting:
                if self._thread is None and not self._stopping:
                    self._thread = threading.Thread(target=self._run, name="custody", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Tell what is still to be told, and give back what has not ended: the process does."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(LAST_WORDS)
        self.give_back(list(self._held))
        ends = time.monotonic() + LAST_WORDS
        while self._pending() and time.monotonic() < ends:
            try:
                self.flush()
            except (ServerUnavailable, ScriptError) as exc:
                log.warning("what was claimed comes back in %.0f s, the server is away: %s", self.timeout, exc)
                break
        if self._server is not None:
            self._server.close()

    def _run(self) -> None:
        beat = time.monotonic() + self.timeout / 3
        sweep = time.monotonic()
        duty, look = False, inf
        while not self._stopping:
            self._wake.wait(max(0.0, min(beat, sweep, look) - time.monotonic()))
            # Lowered before looking: left up over a nudge that has been served, it would never let the thread sleep.
            self._wake.clear()
            try:
                if self._pending():
                    time.sleep(GATHER)
                    self.flush()
                now = time.monotonic()
                if now >= beat:
                    self.heartbeat()
                    beat = now + self.timeout / 3
                if now >= sweep:
                    swept = self.sweep()
                    sweep = time.monotonic() + swept.next_in + random.random() * (0.02 if swept.mine else STAND_BY)
                    duty = swept.mine
                    look = min(look, now) if duty or self._apart() else inf
                if now >= look:
                    self.look(self.watched if duty else self._apart())
                    look = now + (LOOK_EVERY if duty else LOOK_APART)
                self._told_back()
            except (ServerUnavailable, ScriptError) as exc:
                self._told_away(exc)
                # What was claimed before the server went away must be renewed as soon as it is back.
                beat = 0.0
                time.sleep(AFTER_TROUBLE)
            except Exception:
                log.exception("the custody of claimed messages failed, and goes on")
                time.sleep(AFTER_TROUBLE)

    def _pending(self) -> bool:
        return bool(self._acks or self._delays or self._back or self._last or self._graves)

    def flush(self) -> None:
        """Tell the server what was done; whatever it did not take is told again next time."""
        self._told(self._acks, self.broker.acknowledge)
        self._told(self._delays, self._delay)
        self._told(self._back, lambda tags: self.broker.give_back(tags, "first"))
        self._told(self._last, lambda tags: self.broker.give_back(tags, "last"))
        while self._graves:
            tag, reason = self._graves[0]
            self._call(self.broker.bury(tag, reason))
            self._graves.popleft()

    def _delay(self, waits: list[tuple[float, str, str]]) -> Call[int]:
        now = time.monotonic()
        return self.broker.delay([Delay(tag, max(0.0, due - now), message) for due, tag, message in waits])

    def _told(self, waiting: deque[T], call: Callable[[list[T]], Call[int]]) -> None:
        while waiting:
            step = [waiting.popleft() for _ in range(min(STEP, len(waiting)))]
            try:
                self._call(call(step))
            except BaseException:
                waiting.extendleft(reversed(step))
                raise

    def heartbeat(self) -> None:
        """Say that what is in custody is still being worked on."""
        tags = list(self._held)
        for start in range(0, len(tags), STEP):
            gone = self._call(self.broker.heartbeat(tags[start : start + STEP]))
            for tag in gone:
                self._held.pop(tag, None)
            if gone:
                log.warning("%d messages were given to other workers: this one was away for too long", len(gone))

    def sweep(self) -> Swept:
        """Bring back what is due and what the dead have left, if it is our turn."""
        swept = self._connected().repeat(self.broker.sweep(SWEEP_EVERY, self.timeout, STEP))
        if swept.restored:
            log.warning("%d messages of workers that ended or went silent are back in their queues", swept.restored)
        return swept

    def _apart(self) -> set[str]:
        """The queues that the worker on duty may not know of: none of a workflow, or chosen for this worker."""
        queues = set(self.watched)
        return queues if len(queues) <= CHOSEN else {queue for queue in queues if workflow_of(queue) is None}

    def look(self, queues: Collection[str]) -> None:
        """Look for messages that nobody has announced, and wake a worker for them."""
        for step in _steps(self.broker, *self._turn(queues)):
            self._connected().repeat(step)

    def _turn(self, queues: Collection[str]) -> tuple[frozenset[str], bool]:
        """The queues of this look, and whether their lists of lower priorities are looked at, too."""
        if len(queues) <= LOOK_MOST:
            part = frozenset(queues)
            turns = 1
        else:
            turns = -(-len(queues) // LOOK_MOST)
            part = frozenset(sorted(queues)[self._looks % turns :: turns])
        full = self._looks // turns % FULL_LOOK == 0
        self._looks += 1
        return part, full

    def _call(self, call: Call[T]) -> T:
        return self._connected().run(call)

    def _connected(self) -> Server:
        if self._server is None:
            self._server = Server(self._connect())
        return self._server

    def _told_away(self, exc: Exception) -> None:
        if not self._away:
            log.warning("%d claimed messages wait for the server to come back: %s", len(self._held), exc)
        self._away = True

    def _told_back(self) -> None:
        if self._away:
            log.warning("the server is back; %d messages are still in this worker", len(self._held))
        self._away = False


@lru_cache(maxsize=16)
def _steps(broker: Broker, queues: frozenset[str], full: bool) -> list[Call[int]]:
    """Looks at these queues' lists, those of lower priorities only where `full`; so many keys a call."""
    keys = [broker.prefix + name for queue in queues for name in (lists(queue) if full else (queue,))]
    return [broker.find_unannounced(keys[start : start + LOOK_STEP]) for start in range(0, len(keys), LOOK_STEP)]


def in_flight_of(broker: Broker, address: str, connect: Callable[[], "redis.Redis"], timeout: float) -> InFlight:
    """This process's custody of a broker; `address` tells servers apart."""
    with _lock:
        found = _by_broker.get((broker, address))
        if found is None:
            found = _by_broker[broker, address] = InFlight(broker, connect, timeout)
        return found


_by_broker: dict[tuple[Broker, str], InFlight] = {}
_lock = threading.Lock()


def _close_all() -> None:
    for found in list(_by_broker.values()):
        found.close()


atexit.register(_close_all)
# A forked child has claimed nothing: what its parent has is none of its business.
os.register_at_fork(after_in_child=_by_broker.clear)
