"""Celery's Redis transport, made safe: kombu's on the wire, without losing, repeating or forgetting a message.

- A message is claimed by a script, which moves it from its queue to `unacked` in the same step: a killed worker loses
  nothing, and many messages come with one round trip.
- What is claimed is kept alive by a heartbeat (workers/custody.py) and restored a minute after its last beat; a
  dropped connection changes nothing.
- A message with an ETA waits in the server, not in one worker's memory.
- An idle worker blocks on a token that publishing into an empty queue leaves for it.

Producers need nothing of this: the wire format is kombu's, and whatever a stock producer pushes is found by a look at
all queues, four times a second for all workers together.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty
from threading import get_ident
from typing import Any, Final, cast
from uuid import uuid4

import kombu.transport
import redis
from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.json import dumps
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError
from redis.retry import Retry

from limits.connection import Server
from limits.keys import Keys
from limits.scripts import Call
from workers.broker import Broker, Claimed, Place
from workers.custody import Custody, custody
from workers.message import opened, queue_of, wait_of
from workers.queues import PRIORITIES, SEPARATOR, lists, newcomers, workflow_of
from workers.shares import Shares

log = logging.getLogger(__name__)

#: Seconds: an idle worker looks by itself so often; a worker whose queues are held back so often; the lists that may
#: hold messages are asked for so often while there is enough to do.
IDLE, HELD_BACK, REFRESH = 1.0, 0.05, 0.25

#: The most messages that one claim takes.
MOST: Final = 100

#: The share of a worker's slots that only urgent work may use, where there is an urgent queue.
URGENT: Final = 0.1

#: Seconds until a server that refuses claims (it is out of memory, say) is asked again.
REFUSED: Final = 1.0


class QoS(stock.QoS):  # type: ignore[misc]  # kombu has no types
    """What a channel has delivered. The custody, which outlives the channel, knows what is acknowledged."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """A claimed message goes to its consumer."""
        self.channel.custody.hold(delivery_tag, message)
        virtual.QoS.append(self, message, delivery_tag)

    def can_consume(self) -> bool:
        """Whether there is room for one more, with what earlier connections have claimed."""
        return self.credit > 0

    @property
    def credit(self) -> int:
        """How many more messages may be claimed."""
        return self.prefetch_count - len(self.channel.custody) if self.prefetch_count else MOST

    def ack(self, delivery_tag: str) -> None:
        """The message's work is done."""
        self.channel.custody.acknowledge(delivery_tag)
        self._quick_ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Put the message back at its queue's end, or forget it."""
        if requeue:
            self.channel.custody.give_back([delivery_tag], last=True)
        else:
            self.channel.custody.acknowledge(delivery_tag)
        self._quick_ack(delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        """Put everything back that this channel has delivered."""
        del client
        self._flush()
        self.channel.custody.give_back(list(self._delivered))
        self._delivered.clear()

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """The channel closes; its messages stay in custody for as long as somebody works on them."""
        del stderr
        self._on_collect.cancel()
        self._flush()
        self._delivered.clear()
        self._delivered.restored = True

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """The custody sweeps."""


class Batch(stock.PublishBatch):  # type: ignore[misc]  # kombu has no types
    """A batch of published messages that wakes the workers with its last command."""

    def __init__(self, channel: Any, max_size: int) -> None:
        super().__init__(channel, max_size)
        self.announced: set[str] = set()

    def flush(self) -> None:
        """Send everything in one round trip."""
        if self._buffered:
            for name in self.announced:
                self.pipeline.execute_command(*_eval(self.channel.broker.publish(name), by_source=True))
        self.announced.clear()
        super().flush()


class Channel(stock.Channel):  # type: ignore[misc]  # kombu has no types
    """kombu's channel, with claims in place of BRPOP."""

    QoS = QoS

    namespace = "overnight"
    visibility_timeout = 60.0
    queue_order_strategy = Shares

    from_transport_options = (*stock.Channel.from_transport_options, "namespace")

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
        self._places = 0
        self._fruitless = False  # there were messages that could not be taken: rest, or the loop turns in vain
        self._refused_until = 0.0
        self._foreign: set[str] = set()
        self._without_ack: set[str] = set()
        self._active: list[str] | None = None
        self._clients: dict[int, redis.Redis] = {}
        self._custody: Custody | None = None
        self._sentinel_manager: Any = None
        super().__init__(*args, **options)
        self.keys = Keys(self.namespace)
        self.broker = Broker(self.keys, self.global_keyprefix)

    # Connections

    @property
    def custody(self) -> Custody:
        """What this process has claimed of this broker."""
        if self._custody is None:
            client = self.connection.client
            address = f"{client.hostname}:{client.port}/{client.virtual_host}"
            params = self._custody_pool()
            self._custody = custody(
                self.broker, address, lambda: redis.Redis(connection_pool=params), float(self.visibility_timeout)
            )
        return self._custody

    def _custody_pool(self) -> Any:
        """A pool of its own, which lives longer than this channel."""
        manager = self._sentinel_manager
        pool = self._get_pool()
        self._sentinel_manager = manager
        options = pool.connection_kwargs
        options["retry"] = Retry(NoBackoff(), 0)
        for name in ("socket_timeout", "socket_connect_timeout"):
            options[name] = options.get(name) or 5.0
        return pool

    def run(self, call: Call[Any]) -> Any:
        """Run a script over a connection that is not the claims'."""
        return Server(redis.Redis(connection_pool=self.pool)).run(call)

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """One client a thread, instead of a new one for every command."""
        if client is None:
            client = self._clients.get(get_ident())
            if client is None or client.connection_pool is not self.pool:
                client = self._clients[get_ident()] = self._create_client()
        yield client

    # Publishing

    def create_publish_batch(self, max_size: int) -> Batch:
        """Start a batch; kombu's producer sends it."""
        return Batch(self, max_size)

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        batch = options.get("_publish_batch")
        wait = wait_of(message)
        if wait > 0:
            name = self._q_for_pri(queue, self._get_message_priority(message))
            call = self.broker.schedule(f"{uuid4().hex}@{name}", wait, dumps(message))
            if batch is None:
                self.run(call)
            else:
                batch.add("execute_command", *_eval(call, by_source=True))
            return
        if workflow_of(queue) is None:
            super()._put(queue, message, **options)  # a reply, say: whoever waits for it blocks on its list
            return
        name = self._q_for_pri(queue, self._get_message_priority(message))
        if batch is None:
            self.run(self.broker.publish(name, dumps(message)))
        else:
            batch.announced.add(name)
            super()._put(queue, message, **options)

    def announce(self, queue: str) -> None:
        """Wake an idle worker: messages were pushed to this queue's list by hand."""
        self.run(self.broker.publish(queue))

    # Consuming

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **options: Any) -> Any:
        """Consume from a queue. Where no acknowledgement is wanted, kombu's own way will do."""
        if no_ack:
            self._without_ack.add(queue)
        else:
            self.custody.watched.add(queue)
            self.custody.start()
        self._active = None
        self._hungry = True
        return super().basic_consume(queue, no_ack, *args, **options)

    def _basic_cancel(self, consumer_tag: str) -> Any:
        queue = self._tag_to_queue.get(consumer_tag)
        if queue is not None and self._custody is not None:
            self._custody.watched.discard(queue)
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
    def _claims(self) -> bool:
        """Whether this channel claims; a channel that only waits for replies does not."""
        return len(self._without_ack) < len(self.active_queues)

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Ask for messages, or wait for the token that says that there are some. Never waits for the reply."""
        if not self._claims:
            self._waits_for = "BRPOP"
            super()._brpop_start(timeout)
            return
        connection = self.client.connection
        self._asked = self._next_claim()
        if self._asked is None:
            self._waits_for = "BLPOP"
            command: tuple[Any, ...] = ("BLPOP", *self._pause())
        else:
            self._waits_for = "EVALSHA"
            command = _eval(self._asked, by_source=self._by_source)
        self._in_poll = connection
        self._brpop_sent_at = time.monotonic()
        connection.send_command(*command)

    def _next_claim(self) -> Call[Claimed] | None:
        """The claim to be sent now, or None where there is nothing to be had at present."""
        now = time.monotonic()
        if now < self._refused_until or self._fruitless:
            return None
        self._tell = self._hungry or now - self._told_at >= REFRESH
        most, ordinary = self._credit()
        places = self._queue_cycle.plan(self._ready, most)
        if ordinary <= 0:
            places = [place for place in places if place.urgent]
        self._places = len(places)
        return self._claim(places, most, ordinary, tell=self._tell) if places or self._tell else None

    def _claim(self, places: list[Place], most: int, ordinary: int, *, tell: bool) -> Call[Claimed]:
        number = self._number
        # Never the same tags twice, not even where a claim's reply was lost.
        self._number += most
        return self.broker.claim(places, most=most, ordinary=ordinary, owner=self._owner, number=number, tell=tell)

    def _credit(self) -> tuple[int, int]:
        """How many messages may be claimed, and how many of them from queues that are not urgent."""
        credit = self.qos.credit
        most = max(1, min(MOST, credit))
        urgent = self._queue_cycle.urgent
        if not urgent or not self.qos.prefetch_count:
            return most, most
        kept = max(1, round(self.qos.prefetch_count * URGENT)) - self.custody.count(urgent)
        return most, max(0, min(most, credit - max(0, kept)))

    def _pause(self) -> tuple[str, float]:
        """What to block on, and for how many seconds."""
        now = time.monotonic()
        if now < self._refused_until:
            return self.broker.never, max(0.01, self._refused_until - now)
        self._hungry = True
        # What lies ready and may not be taken now (a gate, a cap, slots kept for urgent work) rings no bell later.
        held_back = any(name.partition(SEPARATOR)[0] in self._queue_cycle.mine for name in self._ready)
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
            self.custody.give_back([tag for tag, _ in claimed.messages])
            raise Empty
        for at, (tag, raw) in enumerate(claimed.messages):
            try:
                self._deliver_one(tag, raw)
            except BaseException:
                self.custody.give_back([tag for tag, _ in claimed.messages[at:] if tag not in self.custody])
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
        self._fruitless = bool(self._places) and not claimed.messages
        if self._tell:
            self._ready = set(claimed.ready)
            self._told_at = time.monotonic()
            self._hungry = False
            queues = {name.partition(SEPARATOR)[0] for name in self._ready} - self._queue_cycle.mine - self._foreign
            if queues:
                # A queue that this worker does not follow yet: told once, it decides for itself.
                self._foreign |= queues
                newcomers.told(queues)
        elif not claimed.messages:
            self._hungry = True
        counts = Counter(queue_of(tag) for tag, _ in claimed.messages)
        for queue, count in counts.items():
            self._queue_cycle.took(queue, count)

    def _deliver_one(self, tag: str, raw: bytes) -> None:
        """Hand a claimed message to its consumer, or set it aside: until its time has come, or for good."""
        queue = queue_of(tag)
        try:
            payload = opened(raw, tag, queue)
            self.Message(payload, channel=self)  # whatever is wrong with it, it is wrong here
            wait = wait_of(payload)
        except Exception as exc:  # noqa: BLE001 - whatever it is that a message can do wrong
            self.custody.bury(tag, f"unreadable: {type(exc).__name__}: {exc}")
            return
        if wait > 0:
            self.custody.delay(tag, wait)
            return
        # Its time has come: Celery must not hold it back once more.
        payload["headers"].pop("eta", None)
        self.connection._deliver(payload, queue)  # noqa: SLF001 - as kombu's channel does
        if queue in self._without_ack:
            self.custody.acknowledge(tag)

    def _get(self, queue: str) -> dict[str, Any]:
        """One message, for those who ask instead of consuming."""
        self.custody.start()
        places = [Place(name, step) for name, step in zip(lists(queue), PRIORITIES, strict=True)]
        claimed = cast("Claimed", self.run(self._claim(places, 1, 1, tell=False)))
        for tag, raw in claimed.messages:
            try:
                return opened(raw, tag, queue)
            except Exception as exc:  # noqa: BLE001 - as above
                self.custody.bury(tag, f"unreadable: {type(exc).__name__}: {exc}")
        raise Empty

    def basic_get(self, queue: str, no_ack: bool = False, **options: Any) -> Any:
        """One message, or None."""
        message = super().basic_get(queue, no_ack, **options)
        if no_ack and message is not None:
            self.custody.acknowledge(message.delivery_tag)
        return message

    # What becomes of a message that was delivered

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """The message's work is done; that lands even where this channel has been closed since."""
        del multiple
        self.qos.ack(delivery_tag)

    def snooze(self, delivery_tag: str, seconds: float, headers: dict[str, Any]) -> None:
        """Set a delivered message aside for so long, with some headers changed; it waits in the server.

        It is in `unacked` or among the delayed, never in neither: while the server is away, it stays unacknowledged.
        """
        message = self.custody.message(delivery_tag)
        if message is None:
            self.custody.delay(delivery_tag, seconds)
        else:
            raw = {**message._raw, "headers": {**message._raw["headers"], **headers}}  # noqa: SLF001 - as it came
            self.custody.delay(delivery_tag, seconds, dumps(raw))
        self.qos._quick_ack(delivery_tag)  # noqa: SLF001 - it is delivered no longer

    def bury(self, delivery_tag: str, reason: str) -> None:
        """Set a delivered message aside that cannot be worked on."""
        self.custody.bury(delivery_tag, reason)
        self.qos._quick_ack(delivery_tag)  # noqa: SLF001 - as above

    # What a queue holds

    def _size(self, queue: str) -> int:
        with self.conn_or_acquire() as client:
            delayed = client.hget(self.keys.delayed_counts, queue)
        return int(super()._size(queue)) + int(delayed or 0)

    def _purge(self, queue: str) -> int:
        """Drop what is ready and what is delayed; what is in flight goes on."""
        client = redis.Redis(connection_pool=self.pool)
        dropped = 0
        for name in lists(queue):
            pattern = "*@" + "".join(f"[{c}]" if c in "*?[" else f"\\{c}" if c == "\\" else c for c in name)
            delayed = self.global_keyprefix + self.keys.delayed
            found = [tag.decode() for tag, _ in client.zscan_iter(delayed, match=pattern, count=1000)]
            for start in range(0, len(found), 500):
                dropped += int(self.run(self.broker.forget_delayed(found[start : start + 500])))
        dropped += int(super()._purge(queue))
        # Whoever publishes in between is found by the scout.
        client.srem(self.global_keyprefix + self.keys.ready, *lists(queue))
        return dropped

    def _delete(self, queue: str, *args: Any, **options: Any) -> None:
        self._purge(queue)
        super()._delete(queue, *args, **options)

    def close(self) -> None:
        """Close the channel; what it has claimed stays in custody."""
        if self._in_poll and self._waits_for == "BLPOP":
            # Nothing comes but a token, which another worker does as well with.
            with suppress(*self.connection_errors):
                self._in_poll.disconnect()
            self._in_poll = None
        super().close()


def _eval(call: Call[Any], *, by_source: bool = False) -> tuple[Any, ...]:
    """The command that runs a script."""
    script = ("EVAL", call.script.source) if by_source else ("EVALSHA", call.script.sha)
    return (*script, len(call.keys), *call.keys, *call.args)


class Transport(stock.Transport):  # type: ignore[misc]  # kombu has no types
    """kombu's Redis transport with our channel."""

    Channel = Channel


class SentinelChannel(Channel, stock.SentinelChannel):  # type: ignore[misc]  # kombu has no types
    """The channel for servers that are found by Sentinel."""

    from_transport_options = (*stock.SentinelChannel.from_transport_options, "namespace")


class SentinelTransport(stock.SentinelTransport):  # type: ignore[misc]  # kombu has no types
    """kombu's Sentinel transport with our channel."""

    Channel = SentinelChannel


def register() -> None:
    """Make this the transport of redis://, rediss:// and sentinel:// in this process.

    A URL's scheme stays what users and tools know, and everything that asks kombu for a connection (worker, beat,
    Flower, `celery inspect`) gets the same one.
    """
    aliases = kombu.transport.TRANSPORT_ALIASES
    aliases["redis"] = aliases["rediss"] = "workers.transport:Transport"
    aliases["sentinel"] = "workers.transport:SentinelTransport"
    for name in ("redis", "rediss", "sentinel"):
        kombu.transport._transport_cache.pop(name, None)  # noqa: SLF001 - it holds what was resolved before
