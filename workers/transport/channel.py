"""Celery's Redis transport, made safe: kombu's wire format, but no message is lost, repeated or forgotten.

- A script claims messages: it moves them from their queue to `unacked` in one step. A killed worker loses nothing, and
  one round trip brings many messages.
- A heartbeat (transport/in_flight.py) keeps claimed messages. They are restored a minute after its last beat; a dropped
  connection changes nothing.
- A message with an ETA waits in the server, not in one worker's memory.
- An idle worker blocks on a token that is pushed when a message enters an empty queue.

Producers need none of this. All workers together look sixteen times a second for messages of stock producers.
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
from kombu.utils.json import dumps
from redis.backoff import NoBackoff
from redis.retry import Retry

from limits.client.connection import Server
from limits.client.scripts import Call
from limits.keys import Keys
from workers.transport.broker import Broker
from workers.transport.envelope import DEATHS
from workers.transport.fair_share import FairShare
from workers.transport.fetch import FetchingChannel, command
from workers.transport.in_flight import InFlight, in_flight_of
from workers.transport.message import seconds_until_due, with_deaths
from workers.transport.qos import QoS
from workers.transport.queues import lists, workflow_of

#: Seconds between two health checks of a connection that only listens.
HEALTH_CHECK_EVERY: Final = 5


class PublishBatch(stock.PublishBatch):  # type: ignore[misc]  # kombu has no types
    """A batch of published messages whose last command wakes the workers."""

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
    """kombu's channel, with claims instead of BRPOP."""

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
        """The messages that this process has claimed from this broker."""
        if self._in_flight is None:
            client = self.connection.client
            address = f"{client.hostname}:{client.port}/{client.virtual_host}"
            params = self._in_flight_pool()
            self._in_flight = in_flight_of(
                self.broker, address, lambda: redis.Redis(connection_pool=params), float(self.visibility_timeout)
            )
        return self._in_flight

    def _in_flight_pool(self) -> Any:
        """A connection pool that outlives this channel."""
        manager = self._sentinel_manager
        pool = self._get_pool()
        self._sentinel_manager = manager
        options = pool.connection_kwargs
        options["retry"] = Retry(NoBackoff(), 0)
        for name in ("socket_timeout", "socket_connect_timeout"):
            options[name] = options.get(name) or 5.0
        return pool

    def run(self, call: Call[Any]) -> Any:
        """Run a script over a connection that no claim uses."""
        return Server(redis.Redis(connection_pool=self.pool)).run(call)

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """Yield this thread's client, instead of a new one for each command."""
        if client is None:
            client = self._clients.get(get_ident())
            if client is None or client.connection_pool is not self.pool:
                client = self._clients[get_ident()] = self._create_client()
        with self.doubting():
            yield client

    @contextmanager
    def doubting(self) -> Iterator[None]:
        """Drop every connection of this channel if one of them times out: the others would, too."""
        try:
            yield
        except redis.TimeoutError:
            self.doubt()
            raise

    def doubt(self) -> None:
        """Close every connection that no other thread uses. Each is opened again when it is needed."""
        if current_thread() is not main_thread():
            return  # the hub's connections are the main thread's
        self.pool.disconnect(inuse_connections=False)
        for name in ("client", "subclient"):
            connection = getattr(self.__dict__.get(name), "connection", None)
            if connection is not None:
                connection.disconnect()

    # Publishing

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        """Start a batch, which kombu's producer sends."""
        return PublishBatch(self, max_size)

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
            super()._put(queue, message, **options)  # a reply, for example: its reader blocks on the list
            return
        name = self._q_for_pri(queue, self._get_message_priority(message))
        if batch is None:
            self.run(self.broker.publish(name, dumps(message)))
        else:
            batch.announced.add(name)
            super()._put(queue, message, **options)

    def announce(self, queue: str) -> None:
        """Wake an idle worker for messages that the caller has pushed to this queue's list."""
        self.run(self.broker.publish(queue))

    # Delivered messages

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Acknowledge a message, even if this channel was closed after it was delivered."""
        del multiple
        self.qos.ack(delivery_tag)

    def snooze(self, delivery_tag: str, seconds: float, headers: dict[str, Any]) -> None:
        """Deliver a message again in `seconds`, with these headers changed. It waits in the server.

        The move is one step: until the server has made it, the message stays unacknowledged.
        """
        message = self.in_flight.message(delivery_tag)
        if message is None:
            self.in_flight.delay(delivery_tag, seconds)
        else:
            raw = {**message._raw, "headers": {**message._raw["headers"], **headers}}  # noqa: SLF001 - kombu keeps it there
            deaths = message.properties.get(DEATHS) or 0
            self.in_flight.delay(delivery_tag, seconds, with_deaths(dumps(raw), deaths))
        self.qos._quick_ack(delivery_tag)  # noqa: SLF001 - kombu has no public name for it

    def bury(self, delivery_tag: str, reason: str) -> None:
        """Make a delivered message a dead letter."""
        self.in_flight.bury(delivery_tag, reason)
        self.qos._quick_ack(delivery_tag)  # noqa: SLF001 - as above

    # Queues

    def _size(self, queue: str) -> int:
        with self.conn_or_acquire() as client:
            delayed = client.hget(self.keys.delayed_counts, queue)
        return int(super()._size(queue)) + int(delayed or 0)

    def _purge(self, queue: str) -> int:
        """Drop ready and delayed messages; those in flight are not affected. Returns how many were dropped."""
        client = redis.Redis(connection_pool=self.pool)
        dropped = 0
        for name in lists(queue):
            pattern = "*@" + "".join(f"[{c}]" if c in "*?[" else f"\\{c}" if c == "\\" else c for c in name)
            delayed = self.global_keyprefix + self.keys.delayed
            found = [tag.decode() for tag, _ in client.zscan_iter(delayed, match=pattern, count=1000)]
            for start in range(0, len(found), 500):
                dropped += int(self.run(self.broker.forget_delayed(found[start : start + 500])))
        dropped += int(super()._purge(queue))
        # A message published in between is found like a stock producer's (transport/discovery.py).
        client.srem(self.global_keyprefix + self.keys.ready, *lists(queue))
        return dropped

    def _delete(self, queue: str, *args: Any, **options: Any) -> None:
        self._purge(queue)
        super()._delete(queue, *args, **options)

    def close(self) -> None:
        """Close the channel; its claimed messages stay in flight."""
        if self._in_poll and self._waits_for == "BLPOP":
            # Only a token can come, and another worker can use it.
            with suppress(*self.connection_errors):
                self._in_poll.disconnect()
            self._in_poll = None
        super().close()


class _Hubbed(stock.Transport):  # type: ignore[misc]  # kombu has no types
    """A transport that knows the hub that reads its connections.

    Without a hub, for example in Flower, it checks the health of its subscriptions itself.
    """

    hub: Any = None  # None if there is no hub
    _checked_at = 0.0

    def drain_events(self, connection: Any, timeout: float | None = None, **options: Any) -> None:
        """Deliver what arrives within `timeout` seconds. Raises TimeoutError if nothing does."""
        if self.hub is None and time.monotonic() - self._checked_at >= HEALTH_CHECK_EVERY:
            self._checked_at = time.monotonic()
            self.cycle.maybe_check_subclient_health()
        super().drain_events(connection, timeout, **options)

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let this hub read the connection from now on."""
        self.hub = loop
        super().register_with_event_loop(connection, loop)


class Transport(_Hubbed):
    """kombu's Redis transport with our channel."""

    Channel = Channel


class SentinelChannel(Channel, stock.SentinelChannel):  # type: ignore[misc]  # kombu has no types
    """The channel for servers behind Sentinel."""

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
