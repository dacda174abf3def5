"""The messages that this process has claimed: kept alive, acknowledged, put back. One `InFlight` for each broker.

It outlives connections. A dropped connection says nothing about the calls in flight, so claimed messages stay
claimed, heartbeats continue over the next connection, and whatever the server missed is sent then. A thread of its
own does this work, so neither a busy event loop nor a full pool can delay it.

A message stays in flight while something holds its `Message` object. If Celery drops a request that it will never
run, for example on reconnecting, the garbage collector frees the message and it goes back to its queue.
"""

import atexit
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeVar

from limits.client.connection import Server
from limits.client.scripts import Call
from limits.errors import ScriptError, ServerUnavailable
from workers.transport.broker import Broker, Swept
from workers.transport.discovery import Discovery, own_queues
from workers.transport.message import queue_of
from workers.transport.unsent import STEP, Unsent

if TYPE_CHECKING:
    import redis

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between two sweeps by all workers together.
SWEEP_EVERY: Final = 0.25

#: Seconds for which acknowledgements are gathered into one call.
GATHER: Final = 0.01

#: Seconds until the next try after the server could not be reached.
RETRY_AFTER: Final = 0.5

#: Seconds that a worker waits longer, at most, if another one swept: that worker then usually sweeps again.
STAND_BY: Final = 1.5

#: Seconds between two looks for unannounced messages by the worker that swept last. A stock producer's message waits
#: at most this long for an idle worker.
LOOK_EVERY: Final = SWEEP_EVERY / 4

#: Seconds between two looks of the other workers, at queues that the sweeping worker may not follow.
OWN_LOOK_EVERY: Final = 0.5

#: Seconds for which a count of the messages in flight is reused.
COUNT_FOR: Final = 0.05

#: Seconds that the exit of the process waits for the server to take the last changes.
CLOSE_TIMEOUT: Final = 5.0


class InFlight:
    """The messages that this process has claimed from one broker.

    `connect` opens a client that decodes nothing. `timeout` is the visibility timeout in seconds.
    """

    def __init__(self, broker: Broker, connect: Callable[[], "redis.Redis"], timeout: float) -> None:
        self.broker = broker
        self.timeout = timeout
        self.watched: set[str] = set()  # the queues that this process consumes from
        self._connect = connect
        self._held: dict[str, weakref.ref[Any]] = {}
        self._unsent = Unsent(broker)
        self._server: Server | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._discovery = Discovery(broker)
        self._counted, self._counted_at = 0, 0.0
        self._away = False  # the server could not be reached at the last try

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, tag: object) -> bool:
        return tag in self._held

    def count(self, queues: Collection[str]) -> int:
        """How many messages of these queues are in flight; up to `COUNT_FOR` seconds old."""
        now = time.monotonic()
        if now - self._counted_at > COUNT_FOR:
            self._counted_at = now
            self._counted = sum(queue_of(tag) in queues for tag in list(self._held))
        return self._counted

    def message(self, tag: str) -> Any:
        """The message in flight with this tag, or None."""
        reference = self._held.get(tag)
        return reference() if reference is not None else None

    # Called by the consuming thread. None of these waits for the server.

    def hold(self, tag: str, message: Any) -> None:
        """Keep a claimed message in flight while `message` exists."""
        self._held[tag] = weakref.ref(message, partial(self._dropped, tag))

    def acknowledge(self, tag: str) -> None:
        """Forget the message: its work is done."""
        self._held.pop(tag, None)
        self._unsent.acknowledged.append(tag)
        self._nudge()

    def delay(self, tag: str, seconds: float, message: str = "") -> None:
        """Deliver the message again in `seconds`: as `message`, or unchanged if that is empty."""
        self._held.pop(tag, None)
        self._unsent.delayed.append((time.monotonic() + seconds, tag, message))
        self._nudge()

    def give_back(self, tags: Iterable[str], *, last: bool = False) -> None:
        """Put messages back into their queues: before all others, or after them if `last`."""
        for tag in tags:
            self._held.pop(tag, None)
            (self._unsent.to_back if last else self._unsent.to_front).append(tag)
        self._nudge()

    def bury(self, tag: str, reason: str) -> None:
        """Make the message a dead letter."""
        self._held.pop(tag, None)
        self._unsent.buried.append((tag, reason))
        self._nudge()

    def _dropped(self, tag: str, reference: Any) -> None:
        # The garbage collector calls this from any thread at any point: it must not take a lock.
        del reference
        if self._held.pop(tag, None) is not None:
            self._unsent.to_front.append(tag)

    def _nudge(self) -> None:
        if not self._wake.is_set():
            self._wake.set()

    # The thread

    def start(self) -> None:
        """Start the thread, if it isn't running yet."""
        if self._thread is None:
            with self._starting:
                if self._thread is None and not self._stopping:
                    self._thread = threading.Thread(target=self._run, name="in-flight", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Send what the server has missed and give back the unfinished messages: the process exits."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT)
        self.give_back(list(self._held))
        ends = time.monotonic() + CLOSE_TIMEOUT
        while self._unsent and time.monotonic() < ends:
            try:
                self.flush()
            except (ServerUnavailable, ScriptError) as exc:
                log.warning("server unreachable: claimed messages are restored in %.0f s: %s", self.timeout, exc)
                break
        if self._server is not None:
            self._server.close()

    def _run(self) -> None:
        beat = time.monotonic() + self.timeout / 3
        sweep = time.monotonic()
        sweeping, look = False, inf
        while not self._stopping:
            self._wake.wait(max(0.0, min(beat, sweep, look) - time.monotonic()))
            # Cleared before flushing: a nudge that comes during the flush must start another round.
            self._wake.clear()
            try:
                if self._unsent:
                    time.sleep(GATHER)
                    self.flush()
                now = time.monotonic()
                if now >= beat:
                    self.heartbeat()
                    beat = now + self.timeout / 3
                if now >= sweep:
                    swept = self.sweep()
                    sweep = time.monotonic() + swept.next_in + random.random() * (0.02 if swept.mine else STAND_BY)
                    sweeping = swept.mine
                    look = min(look, now) if sweeping or own_queues(self.watched) else inf
                if now >= look:
                    self.look(self.watched if sweeping else own_queues(self.watched))
                    look = now + (LOOK_EVERY if sweeping else OWN_LOOK_EVERY)
                self._log_back()
            except (ServerUnavailable, ScriptError) as exc:
                self._log_away(exc)
                # Messages claimed before the outage need a heartbeat as soon as the server is back.
                beat = 0.0
                time.sleep(RETRY_AFTER)
            except BaseException:  # without this thread the messages go to other workers and run twice
                log.exception("could not update the messages in flight; trying again")
                time.sleep(RETRY_AFTER)

    def flush(self) -> None:
        """Send all changes to the server. What it did not take stays for the next flush."""
        self._unsent.flush(self._call)

    def heartbeat(self) -> None:
        """Keep the messages in flight, and drop those that were restored to other workers."""
        tags = list(self._held)
        for start in range(0, len(tags), STEP):
            gone = self._call(self.broker.heartbeat(tags[start : start + STEP]))
            for tag in gone:
                self._held.pop(tag, None)
            if gone:
                log.warning("%d messages went to other workers: this one sent no heartbeat for too long", len(gone))

    def sweep(self) -> Swept:
        """Deliver delayed messages that are due and restore those of dead workers, if it is our turn."""
        swept = self._connected().repeat(self.broker.sweep(SWEEP_EVERY, self.timeout, STEP))
        if swept.restored:
            log.warning("restored %d messages of workers that died or went silent", swept.restored)
        return swept

    def look(self, queues: Collection[str]) -> None:
        """Find unannounced messages in these queues and wake a worker for them."""
        for call in self._discovery.next_look(queues):
            self._connected().repeat(call)

    def _call(self, call: Call[T]) -> T:
        return self._connected().run(call)

    def _connected(self) -> Server:
        if self._server is None:
            self._server = Server(self._connect())
        return self._server

    def _log_away(self, exc: Exception) -> None:
        if not self._away:
            log.warning("server unreachable with %d messages in flight; they wait for it: %s", len(self._held), exc)
        self._away = True

    def _log_back(self) -> None:
        if self._away:
            log.warning("server reachable again; %d messages in flight", len(self._held))
        self._away = False


def in_flight_of(broker: Broker, address: str, connect: Callable[[], "redis.Redis"], timeout: float) -> InFlight:
    """This process's messages in flight from a broker. `address` distinguishes servers."""
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
# A forked child has claimed nothing: its parent's messages are not its business.
os.register_at_fork(after_in_child=_by_broker.clear)
