"""How a channel gets its messages: by claims, many at a time, and by a pause where there is nothing to be had.

kombu's channel sends BRPOP and reads its reply, and its poller watches the connection in between. Here the same two
hooks send a claim, or block on the token that wakes an idle worker. What a claim brings is delivered, set aside until
its time has come, or buried.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from queue import Empty
from typing import Any, Final, cast
from uuid import uuid4

from kombu.transport import redis as stock
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from limits.client.scripts import Call
from workers.transport.broker import Broker, Claimed, Source
from workers.transport.envelope import MAX_DEATHS
from workers.transport.in_flight import InFlight
from workers.transport.message import deaths_of, parse, queue_of, seconds_until_due
from workers.transport.queues import PRIORITIES, SEPARATOR, lists
from workers.transport.registry import unfollowed

log = logging.getLogger(__name__)

#: Seconds: an idle worker looks by itself so often; a worker whose queues are held back so often; the lists that may
#: hold messages are asked for so often while there is enough to do, or nothing may be taken of it.
IDLE, HELD_BACK, REFRESH = 1.0, 0.1, 0.25

#: While it rests, a worker looks at its own gates after whatever wakes it, but not sooner than after so many seconds.
GLANCE: Final = 0.01

#: The most messages that one claim takes.
MAX_CLAIM: Final = 100

#: The share of a worker's slots that only urgent work may use, where there is an urgent queue.
URGENT: Final = 0.1

#: Seconds until a server that refuses claims (it is out of memory, say) is asked again.
REFUSED: Final = 1.0


class FetchingChannel(stock.Channel, ABC):  # type: ignore[misc]  # kombu has no types
    """The consuming half of the channel. The other half has the connections, and is told what was done."""

    broker: Broker

    def __init__(self, *args: Any, **options: Any) -> None:
        self._owner = uuid4().hex[:16] + "."
        self._number = 0
        self._asked: Call[Claimed] | None = None  # the claim whose reply is to come
        self._waits_for = "BRPOP"
        self._by_source = False
        self._ready: set[str] = set()  # the lists that may hold messages, as last told
        self._told_at = 0.0
        self._tell = False
        self._hungry = True  # what is ready is asked for with the next claim
        self._source_count = 0
        self._fruitless = False  # there were messages that could not be taken: rest, or the loop turns in vain
        self._refused_until = 0.0
        self._rests_until = 0.0  # nothing is sent before, unless a gate opens
        self._glance_at = 0.0
        self._foreign: set[str] = set()
        self._without_ack: set[str] = set()
        self._consumers_of: dict[str, Callable[[Any], Any]] = {}  # queue: who takes its messages
        self._active: list[str] | None = None
        super().__init__(*args, **options)

    @property
    @abstractmethod
    def in_flight(self) -> InFlight:
        """What this process has claimed of this broker."""

    @abstractmethod
    def run(self, call: Call[Any]) -> Any:
        """Run a script over a connection that is not the claims'."""

    @abstractmethod
    def doubting(self) -> AbstractContextManager[None]:
        """Drop every connection of this channel if one of them is found silent in the block."""

    def basic_consume(self, queue: str, no_ack: bool, callback: Callable[[Any], Any], **options: Any) -> Any:
        """Consume from a queue. Where no acknowledgement is wanted, kombu's own way will do."""
        if no_ack:
            self._without_ack.add(queue)
        else:
            self.in_flight.watched.add(queue)
            self.in_flight.start()
        self._active = None
        self._hungry = True
        self._consumers_of[queue] = callback
        return super().basic_consume(queue, no_ack, callback, **options)

    def _basic_cancel(self, consumer_tag: str) -> Any:
        queue = self._tag_to_queue.get(consumer_tag)
        if queue is not None and self._in_flight is not None:
            self._in_flight.watched.discard(queue)
            self._consumers_of.pop(queue, None)
        self._without_ack.discard(queue or "")
        self._active = None
        try:
            return super()._basic_cancel(consumer_tag)
        finally:
            self._active = None

    @property
    def active_queues(self) -> list[str]:
        """The queues that are consumed from; asked for at every turn of the loop."""
        if self._active is None:
            self._active = super().active_queues
        return self._active

    @property
    def _fetches(self) -> bool:
        """Whether this channel claims; a channel that only waits for replies does not."""
        return len(self._without_ack) < len(self.active_queues)

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Ask for messages, or wait for the token that says that there are some. Never waits for the reply."""
        if not self._fetches:
            self._waits_for = "BRPOP"
            super()._brpop_start(timeout)
            return
        now = time.monotonic()
        if now < self._rests_until and now < self._glance_at:
            return
        if 0 < self._rests_until <= now:
            self._rests_until = 0.0
            self._fruitless = False
        connection = self.client.connection
        self._asked = self._next_claim()
        if self._asked is not None:
            self._rests_until = 0.0
            self._waits_for = "EVALSHA"
            sent = command(self._asked, by_source=self._by_source)
        else:
            key, seconds = self._pause()
            if key == self.broker.never and self._rest(seconds if self._hungry else REFRESH):
                return
            self._waits_for = "BLPOP"
            sent = ("BLPOP", key, seconds)
        self._in_poll = connection
        self._brpop_sent_at = time.monotonic()
        with self.doubting():
            connection.send_command(*sent)

    def _rest(self, seconds: float) -> bool:
        """Send nothing for so long, if there is a hub that will turn then; no message can be had that would wake us."""
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
        """The claim to be sent now, or None where there is nothing to be had at present."""
        now = time.monotonic()
        if now < self._refused_until or self._fruitless:
            return None
        self._tell = self._hungry or now - self._told_at >= REFRESH
        most, ordinary = self._credit()
        sources = self._queue_cycle.plan(self._ready, most)
        if ordinary <= 0:
            sources = [source for source in sources if source.urgent]
        self._source_count = len(sources)
        return self._claim(sources, most, ordinary, tell=self._tell) if sources or self._tell else None

    def _claim(self, sources: list[Source], most: int, ordinary: int, *, tell: bool) -> Call[Claimed]:
        number = self._number
        # Never the same tags twice, not even where a claim's reply was lost.
        self._number += most
        return self.broker.claim(sources, most=most, ordinary=ordinary, owner=self._owner, number=number, tell=tell)

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
        """What to block on, and for how many seconds."""
        now = time.monotonic()
        if now < self._refused_until:
            return self.broker.never, max(0.01, self._refused_until - now)
        # What lies ready and may not be taken now (a gate, a cap, slots kept for urgent work) rings no bell later.
        held_back = any(name.partition(SEPARATOR)[0] in self._queue_cycle.mine for name in self._ready)
        # Of what only a gate of ours holds back, the server tells nothing new.
        self._hungry = not held_back or self._fruitless
        return (self.broker.never, HELD_BACK) if held_back else (self.broker.wake, IDLE)

    def _brpop_read(self, **options: Any) -> bool:
        if self._waits_for == "BRPOP":
            return bool(super()._brpop_read(**options))
        asked, self._asked = self._asked, None
        try:
            reply = self._reply(**options)
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        self._fruitless = False
        if asked is None or reply is None:
            raise Empty
        claimed = asked.parse(reply)
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
        """What the server answers; None where it has no claim to give."""
        client = self.client
        try:
            return client.parse_response(client.connection, self._waits_for, **options)
        except NoScriptError:
            self._by_source = True  # a server that was restarted: the next claim brings its script along
            return None
        except ReadOnlyError:
            client.connection.disconnect()  # a primary that has become a replica
            raise
        except ResponseError as exc:
            log.error("the server refuses to give out messages: %s", exc)  # noqa: TRY400 - the words say it all
            self._refused_until = time.monotonic() + REFUSED
            return None
        except self.connection_errors:
            client.connection.disconnect()
            raise

    def _learn(self, claimed: Claimed) -> None:
        """What a claim tells of the queues."""
        self._by_source = False
        self._fruitless = bool(self._source_count) and not claimed.messages
        if self._tell:
            self._ready = set(claimed.ready)
            self._told_at = time.monotonic()
            self._hungry = False
            foreign = {name.partition(SEPARATOR)[0] for name in self._ready} - self._queue_cycle.mine
            new, self._foreign = foreign - self._foreign, foreign
            if new:
                # Queues that this worker does not follow yet: told once for as long as they hold messages.
                unfollowed.report(new)
        elif not claimed.messages:
            self._hungry = True
        counts = Counter(queue_of(tag) for tag, _ in claimed.messages)
        for queue, count in counts.items():
            self._queue_cycle.took(queue, count)

    def _deliver_one(self, tag: str, raw: bytes) -> None:
        """Hand a claimed message to its consumer, or set it aside: until its time has come, or for good."""
        queue = queue_of(tag)
        if (deaths := deaths_of(raw)) > MAX_DEATHS:  # not even its reading has ended well
            self.in_flight.bury(tag, f"{deaths} workers ended while they had it")
            return
        try:
            payload = parse(raw, tag, queue)
            message = self.Message(payload, channel=self)  # whatever is wrong with it, it is wrong here
            wait = seconds_until_due(payload)
        except Exception as exc:  # noqa: BLE001 - whatever it is that a message can do wrong
            self.in_flight.bury(tag, f"unreadable: {type(exc).__name__}: {exc}")
            return
        if wait > 0:
            self.in_flight.delay(tag, wait)
            return
        # Its time has come: Celery must not hold it back once more.
        payload["headers"].pop("eta", None)
        consumer = self._consumers_of.get(queue)
        if consumer is None:
            self.connection._deliver(payload, queue)  # noqa: SLF001 - as kombu's channel does: nobody takes it
        elif queue in self._without_ack:
            consumer(message)
            self.in_flight.acknowledge(tag)
        else:
            self.qos.append(message, tag)
            consumer(message)

    def _get(self, queue: str) -> dict[str, Any]:
        """One message, for those who ask instead of consuming."""
        self.in_flight.start()
        sources = [Source(name, step) for name, step in zip(lists(queue), PRIORITIES, strict=True)]
        claimed = cast("Claimed", self.run(self._claim(sources, 1, 1, tell=False)))
        for tag, raw in claimed.messages:
            try:
                return parse(raw, tag, queue)
            except Exception as exc:  # noqa: BLE001 - as above
                self.in_flight.bury(tag, f"unreadable: {type(exc).__name__}: {exc}")
        raise Empty

    def basic_get(self, queue: str, no_ack: bool = False, **options: Any) -> Any:
        """One message, or None."""
        message = super().basic_get(queue, no_ack, **options)
        if no_ack and message is not None:
            self.in_flight.acknowledge(message.delivery_tag)
        return message


def _nothing() -> None:
    """What a timer calls that is only to have the hub turn."""


def command(call: Call[Any], *, by_source: bool = False) -> tuple[Any, ...]:
    """The command that runs a script."""
    script = ("EVAL", call.script.source) if by_source else ("EVALSHA", call.script.sha)
    return (*script, len(call.keys), *call.keys, *call.args)
