"""How a channel fetches messages: it claims many at a time, and waits for more.

kombu's channel sends BRPOP and reads the reply, and its poller watches the connection in between. The same two hooks
here send a claim, or block on the token that wakes an idle worker.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from queue import Empty
from typing import Any, Final

from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from limits.client.scripts import Call
from workers.transport.broker import Claimed
from workers.transport.delivery import DeliveringChannel
from workers.transport.message import queue_of
from workers.transport.queues import SEPARATOR
from workers.transport.registry import unfollowed

log = logging.getLogger(__name__)

#: Seconds after which an idle worker claims even if nothing woke it.
IDLE: Final = 1.0

#: Seconds between two claims of a worker that may not claim what is ready: its gate is closed, its cap is reached, or
#: the free slots are kept for urgent work.
HELD_BACK: Final = 0.1

#: Seconds after which a busy worker asks again which lists may hold messages.
REFRESH: Final = 0.25

#: Seconds between two looks of a resting worker at its own gates, whatever wakes it.
GLANCE: Final = 0.01

#: Messages that one claim takes at most.
MAX_CLAIM: Final = 100

#: The share of a worker's slots that is kept for urgent work if it consumes from an urgent queue.
URGENT: Final = 0.1

#: Seconds until the next claim after the server refused one, for example because it is out of memory.
REFUSED: Final = 1.0


class FetchingChannel(DeliveringChannel):
    """The fetching half of the channel. The other half, `Channel`, has the connections."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._claim_sent: Call[Claimed] | None = None  # the claim whose reply is expected
        self._waits_for = "BRPOP"  # the command whose reply is expected
        self._by_source = False  # send the next claim's script with it: the server does not know it
        self._ready: set[str] = set()  # lists that may hold messages, by the last claim that asked
        self._ready_at = 0.0
        self._with_ready = False  # the claim that was sent asks which lists may hold messages
        self._stale = True  # `_ready` is out of date: ask with the next claim
        self._source_count = 0  # lists in the claim that was sent
        self._nothing_taken = False  # the last claim had lists but got nothing: pause before the next
        self._refused_until = 0.0
        self._rests_until = 0.0  # send nothing before, unless a gate opens
        self._glance_at = 0.0
        self._unfollowed: set[str] = set()  # queues with messages that this worker does not consume
        super().__init__(*args, **options)

    def basic_consume(self, queue: str, no_ack: bool, callback: Callable[[Any], Any], **options: Any) -> Any:
        """Consume from a queue."""
        self._stale = True
        return super().basic_consume(queue, no_ack, callback, **options)

    @property
    def _claims(self) -> bool:
        """Whether this channel claims. One that only waits for replies uses BRPOP."""
        return len(self._without_ack) < len(self.active_queues)

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Send a claim, or wait for the token that wakes this worker. Does not wait for the reply."""
        if not self._claims:
            self._waits_for = "BRPOP"
            super()._brpop_start(timeout)
            return
        now = time.monotonic()
        if now < self._rests_until and now < self._glance_at:
            return
        if 0 < self._rests_until <= now:
            self._rests_until = 0.0
            self._nothing_taken = False
        connection = self.client.connection
        self._claim_sent = self._next_claim()
        if self._claim_sent is not None:
            self._rests_until = 0.0
            self._waits_for = "EVALSHA"
            sent = command(self._claim_sent, by_source=self._by_source)
        else:
            key, seconds = self._pause()
            if key == self.broker.never and self._rest(seconds if self._stale else REFRESH):
                return
            self._waits_for = "BLPOP"
            sent = ("BLPOP", key, seconds)
        self._in_poll = connection
        self._brpop_sent_at = time.monotonic()
        with self.doubting():
            connection.send_command(*sent)

    def _rest(self, seconds: float) -> bool:
        """Send nothing for `seconds`. Returns False without a hub: nothing would call this channel again."""
        hub = self.connection.hub
        if hub is None:
            return False
        now = time.monotonic()
        self._glance_at = now + GLANCE
        if now >= self._rests_until:
            self._rests_until = now + seconds
            hub.call_later(seconds, _nothing)
        return True

    def _next_claim(self) -> Call[Claimed] | None:
        """The claim to send now, or None if there is nothing to claim."""
        now = time.monotonic()
        if now < self._refused_until or self._nothing_taken:
            return None
        self._with_ready = self._stale or now - self._ready_at >= REFRESH
        most, ordinary = self._credit()
        sources = self._queue_cycle.plan(self._ready, most)
        if ordinary <= 0:
            sources = [source for source in sources if source.urgent]
        self._source_count = len(sources)
        if not sources and not self._with_ready:
            return None
        return self._claim(sources, most, ordinary, with_ready=self._with_ready)

    def _credit(self) -> tuple[int, int]:
        """How many messages may be claimed, and how many of them from queues that are not urgent."""
        credit = self.qos.credit
        most = max(1, min(MAX_CLAIM, credit))
        urgent = self._queue_cycle.urgent
        if not urgent or not self.qos.prefetch_count:
            return most, most
        kept = max(1, round(self.qos.prefetch_count * URGENT)) - self.in_flight.count(urgent)
        return most, max(0, min(most, credit - max(0, kept)))

    def _pause(self) -> tuple[str, float]:
        """The list to block on, and for how many seconds."""
        now = time.monotonic()
        if now < self._refused_until:
            return self.broker.never, max(0.01, self._refused_until - now)
        # No token comes for messages that are ready but may not be claimed now.
        held_back = any(name.partition(SEPARATOR)[0] in self._queue_cycle.mine for name in self._ready)
        # If only a gate of ours holds them back, asking the server again brings nothing new.
        self._stale = not held_back or self._nothing_taken
        return (self.broker.never, HELD_BACK) if held_back else (self.broker.wake, IDLE)

    def _brpop_read(self, **options: Any) -> bool:
        if self._waits_for == "BRPOP":
            return bool(super()._brpop_read(**options))
        sent, self._claim_sent = self._claim_sent, None
        try:
            reply = self._reply(**options)
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        self._nothing_taken = False
        if sent is None or reply is None:
            raise Empty
        claimed = sent.parse(reply)
        self._learn(claimed)
        if not claimed.messages:
            raise Empty
        if self._closing:
            self.in_flight.give_back([tag for tag, _ in claimed.messages])
            raise Empty
        for at, (tag, raw) in enumerate(claimed.messages):
            try:
                self._deliver_one(tag, raw)
            except BaseException:
                self.in_flight.give_back([tag for tag, _ in claimed.messages[at:] if tag not in self.in_flight])
                raise
        return True

    def _reply(self, **options: Any) -> Any:
        """The server's reply; None if it contains no claim."""
        client = self.client
        try:
            return client.parse_response(client.connection, self._waits_for, **options)
        except NoScriptError:
            self._by_source = True  # the server was restarted
            return None
        except ReadOnlyError:
            client.connection.disconnect()  # a primary that has become a replica
            raise
        except ResponseError as exc:
            log.error("the server refuses to give out messages: %s", exc)  # noqa: TRY400 - a traceback adds nothing
            self._refused_until = time.monotonic() + REFUSED
            return None
        except self.connection_errors:
            client.connection.disconnect()
            raise

    def _learn(self, claimed: Claimed) -> None:
        """Note which lists are ready, and count what was taken from each queue."""
        self._by_source = False
        self._nothing_taken = bool(self._source_count) and not claimed.messages
        if self._with_ready:
            self._ready = set(claimed.ready)
            self._ready_at = time.monotonic()
            self._stale = False
            found = {name.partition(SEPARATOR)[0] for name in self._ready} - self._queue_cycle.mine
            new, self._unfollowed = found - self._unfollowed, found
            if new:
                # Report each queue once while it holds messages.
                unfollowed.report(new)
        elif not claimed.messages:
            self._stale = True
        counts = Counter(queue_of(tag) for tag, _ in claimed.messages)
        for queue, count in counts.items():
            self._queue_cycle.took(queue, count)


def _nothing() -> None:
    """Called by a timer that only makes the hub turn."""


def command(call: Call[Any], *, by_source: bool = False) -> tuple[Any, ...]:
    """The command that runs a script."""
    script = ("EVAL", call.script.source) if by_source else ("EVALSHA", call.script.sha)
    return (*script, len(call.keys), *call.keys, *call.args)
