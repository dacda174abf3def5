"""Celery's Redis transport, made safe: kombu's on the wire, without losing, repeating or forgetting a message.

- A message is claimed by a script, which moves it from its queue to `unacked` in the same step: a killed worker loses
  nothing, and many messages come with one round trip.
- What is claimed is kept alive by a heartbeat (transport/in_flight.py) and restored a minute after its last beat; a
  dropped connection changes nothing.
- A message with an ETA waits in the server, not in one worker's memory.
- An idle worker blocks on a token that publishing into an empty queue leaves for it.

Producers need nothing of this: the wire format is kombu's, and whatever a stock producer pushes is found by a look at
all queues, sixteen times a second for all workers together.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import current_thread, get_ident, main_thread
from typing import Any, Final
from uuid import uuid4

import kombu.transport
import redis
from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.json import dumps
from redis.backoff import NoBackoff
from redis.retry import Retry

from limits.client.connection import Server
from limits.client.scripts import Call
from limits.keys import Keys
from workers.transport.broker import Broker
from workers.transport.envelope import DEATHS
from workers.transport.fair_share import FairShare
from workers.transport.fetch import MAX_CLAIM, FetchingChannel, command
from workers.transport.in_flight import InFlight, in_flight_of
from workers.transport.message import seconds_until_due, with_deaths
from workers.transport.queues import lists, workflow_of

#: Seconds between two questions whether a connection that only listens is alive.
SILENT: Final = 5


class QoS(stock.QoS):  # type: ignore[misc]  # kombu has no types
    """What a channel has delivered. The custody, which outlives the channel, knows what is acknowledged."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """A claimed message goes to its consumer."""
        self.channel.in_flight.hold(delivery_tag, message)
        virtual.QoS.append(self, message, delivery_tag)

    def can_consume(self) -> bool:
        """Whether there is room for one more, with what earlier connections have claimed."""
        return self.credit > 0

    @property
    def credit(self) -> int:
        """How many more messages may be claimed."""
        return self.prefetch_count - len(self.channel.in_flight) if self.prefetch_count else MAX_CLAIM

    def ack(self, delivery_tag: str) -> None:
        """The message's work is done."""
        self.channel.in_flight.acknowledge(delivery_tag)
        self._quick_ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Put the message back at its queue's end, or forget it."""
        if requeue:
            self.channel.in_flight.give_back([delivery_tag], last=True)
        else:
            self.channel.in_flight.acknowledge(delivery_tag)
        self._quick_ack(delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        """Put everything back that this channel has delivered."""
        del client
        self._flush()
        self.channel.in_flight.give_back(list(self._delivered))
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
                self.pipeline.execute_command(*command(self.channel.broker.publish(name), by_source=True))
        self.announced.clear()
        super().flush()


class Channel(FetchingChannel):
    """kombu's channel, with claims in source of BRPOP."""

    QoS = QoS

    namespace = "overnight"
    visibility_timeout = 60.0
    queue_order_strategy = FairShare

    from_transport_options = (*stock.Channel.from_transport_options, "namespace")

    def __init__(self, *args: Any, **options: Any) -> None:
        self._clients: dict[int, redis.Redis] = {}
        self._in_flight: InFlight | None = None
        self._sentinel_manager: Any = None
        super().__init__(*args, **options)
        self.keys = Keys(self.namespace)
        self.broker = Broker(self.keys, self.global_keyprefix)

    # Connections

    @property
    def in_flight(self) -> InFlight:
        """What this process has claimed of this broker."""
        if self._in_flight is None:
            client = self.connection.client
            address = f"{client.hostname}:{client.port}/{client.virtual_host}"
            params = self._in_flight_pool()
            self._in_flight = in_flight_of(
                self.broker, address, lambda: redis.Redis(connection_pool=params), float(self.visibility_timeout)
            )
        return self._in_flight

    def _in_flight_pool(self) -> Any:
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
        with self.doubting():
            yield client

    @contextmanager
    def doubting(self) -> Iterator[None]:
        """Drop every connection of this channel if one of them is found silent: the others would block in turn."""
        try:
            yield
        except redis.TimeoutError:
            self.doubt()
            raise

    def doubt(self) -> None:
        """Close every connection that is not in use by another thread; each is made again when it is next needed."""
        if current_thread() is not main_thread():
            return  # the hub's connections are the main thread's
        self.pool.disconnect(inuse_connections=False)
        for name in ("client", "subclient"):
            connection = getattr(self.__dict__.get(name), "connection", None)
            if connection is not None:
                connection.disconnect()

    # Publishing

    def create_publish_batch(self, max_size: int) -> Batch:
        """Start a batch; kombu's producer sends it."""
        return Batch(self, max_size)

    def _put(self, queue: str, message: dict[str, Any], **options: Any) -> None:
        batch = options.get("_publish_batch")
        wait = seconds_until_due(message)
        if wait > 0:
            name = self._q_for_pri(queue, self._get_message_priority(message))
            call = self.broker.schedule(f"{uuid4().hex}@{name}", wait, dumps(message))
            if batch is None:
                self.run(call)
            else:
                batch.add("execute_command", *command(call, by_source=True))
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

    # What becomes of a message that was delivered

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """The message's work is done; that lands even where this channel has been closed since."""
        del multiple
        self.qos.ack(delivery_tag)

    def snooze(self, delivery_tag: str, seconds: float, headers: dict[str, Any]) -> None:
        """Set a delivered message aside for so long, with some headers changed; it waits in the server.

        It is in `unacked` or among the delayed, never in neither: while the server is away, it stays unacknowledged.
        """
        message = self.in_flight.message(delivery_tag)
        if message is None:
            self.in_flight.delay(delivery_tag, seconds)
        else:
            raw = {**message._raw, "headers": {**message._raw["headers"], **headers}}  # noqa: SLF001 - as it came
            deaths = message.properties.get(DEATHS) or 0
            self.in_flight.delay(delivery_tag, seconds, with_deaths(dumps(raw), deaths))
        self.qos._quick_ack(delivery_tag)  # noqa: SLF001 - it is delivered no longer

    def bury(self, delivery_tag: str, reason: str) -> None:
        """Set a delivered message aside that cannot be worked on."""
        self.in_flight.bury(delivery_tag, reason)
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


class _Hubbed(stock.Transport):  # type: ignore[misc]  # kombu has no types
    """A transport that knows the hub which reads what its connections bring, None if there is none.

    Without a hub (in Flower, say) it asks after its subscriptions on its own, as kombu has a hub do.
    """

    hub: Any = None
    _asked_at = 0.0

    def drain_events(self, connection: Any, timeout: float | None = None, **options: Any) -> None:
        """Deliver what comes within `timeout` seconds; TimeoutError if nothing does."""
        if self.hub is None and time.monotonic() - self._asked_at >= SILENT:
            self._asked_at = time.monotonic()
            self.cycle.maybe_check_subclient_health()
        super().drain_events(connection, timeout, **options)

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Have this hub read from now on."""
        self.hub = loop
        super().register_with_event_loop(connection, loop)


class Transport(_Hubbed):
    """kombu's Redis transport with our channel."""

    Channel = Channel


class SentinelChannel(Channel, stock.SentinelChannel):  # type: ignore[misc]  # kombu has no types
    """The channel for servers that are found by Sentinel."""

    from_transport_options = (*stock.SentinelChannel.from_transport_options, "namespace")


class SentinelTransport(_Hubbed, stock.SentinelTransport):  # type: ignore[misc]  # kombu has no types
    """kombu's Sentinel transport with our channel."""

    Channel = SentinelChannel


def register() -> None:
    """Make this the transport of redis://, rediss:// and sentinel:// in this process.

    A URL's scheme stays what users and tools know, and everything that asks kombu for a connection (worker, beat,
    Flower, `celery inspect`) gets the same one.
    """
    aliases = kombu.transport.TRANSPORT_ALIASES
    aliases["redis"] = aliases["rediss"] = "workers.transport.channel:Transport"
    aliases["sentinel"] = "workers.transport.channel:SentinelTransport"
    for name in ("redis", "rediss", "sentinel"):
        kombu.transport._transport_cache.pop(name, None)  # noqa: SLF001 - it holds what was resolved before
