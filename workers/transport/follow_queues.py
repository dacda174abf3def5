"""The worker's step that adds each new workflow queue to what it consumes."""

import logging
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import redis
from celery import bootsteps
from redis.backoff import NoBackoff
from redis.retry import Retry

from limits.client.connection import open_client
from limits.keys import Keys
from workers.config.current import current_settings
from workers.embedded import server_url
from workers.transport import rabbitmq
from workers.transport.broker import broker_url
from workers.transport.queues import workflow_of
from workers.transport.registry import Registry, unfollowed

log = logging.getLogger(__name__)

#: Seconds between two looks at the registry.
LOOK_EVERY: Final = 0.5

#: Seconds until the registry is read again even if it contains as many names as before.
READ_EVERY: Final = 10.0

#: Seconds between two tries of a worker to scan for queues of stock producers; one worker scans for all.
SCAN_TURN: Final = 1.0

#: Queues that the log names; of more, it gives the count.
MAX_LISTED: Final = 10


class FollowQueues(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Consumes from every queue in the registry; a worker started with `-Q` only from the queues named there."""

    requires = (
        "celery.worker.consumer.tasks:Tasks",
        "celery.worker.consumer.delayed_delivery:DelayedDelivery",  # new queues are bound to it on RabbitMQ
    )

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.timer_entry: Any = None
        self.client: Any = None
        self.broker: Any = None
        self.unreachable = False
        self.registry: Any = None
        self.known = -1  # names in the registry at the last read
        self.read_at = 0.0
        self.next_scan = 0.0
        self.amqp = False
        self.followed: set[str] = set()
        self.listener: Any = None

    def start(self, consumer: Any) -> None:
        """Look now and every `LOOK_EVERY` seconds, in the worker's main thread."""
        if consumer.app.amqp.queues._consume_from is not None:  # noqa: SLF001 - where Celery keeps its -Q
            return
        settings = current_settings()
        self.amqp = rabbitmq.is_amqp(settings)
        urls = (server_url(settings), broker_url(settings))
        self.client, self.broker = (
            open_client(url, retry=Retry(NoBackoff(), 0)) if url else None
            for url in urls  # no retries: the next look is one, and this thread must go on claiming
        )
        self.registry = Registry(self.client, Keys(settings.namespace), settings, self.broker)
        self.known = -1
        self.look(consumer)
        self.timer_entry = consumer.timer.call_repeatedly(LOOK_EVERY, self.look, (consumer,))
        self.listener = partial(self.adopt, consumer)
        unfollowed.listeners.append(self.listener)

    def stop(self, consumer: Any) -> None:
        """Stop looking: the consumer closes."""
        del consumer
        if self.listener is not None:
            unfollowed.listeners.remove(self.listener)
            self.listener = None
        if self.timer_entry is not None:
            self.timer_entry.cancel()
            self.timer_entry = None
            for client in (self.client, self.broker):
                if client is not None:
                    client.close()

    shutdown = stop

    def look(self, consumer: Any) -> None:
        """Follow the queues of the registry and leave those it has forgotten."""
        try:
            now = time.monotonic()
            self.registry.settings = current_settings()  # someone may have changed them
            if self.broker is not None and now >= self.next_scan:
                self.next_scan = now + SCAN_TURN
                self.registry.scan()
            count = self.client.scard(self.registry.keys.queues)
            if count == self.known and now - self.read_at < READ_EVERY:
                return
            queues = self.registry.wanted()
            self.known, self.read_at = count, now
        except redis.RedisError as exc:
            if isinstance(exc, redis.TimeoutError):
                self._doubt(consumer)
            if not self.unreachable:
                log.warning("cannot follow queues, server unreachable: %s", exc)
            self.unreachable = True
            return
        self.unreachable = False
        self.follow(consumer, queues)
        self.leave(consumer, self.followed - queues)

    def _doubt(self, consumer: Any) -> None:
        """Reopen the connections that claim, too: if one connection has gone silent, others usually have."""
        channel: Any = getattr(consumer.task_consumer, "channel", None)
        if hasattr(channel, "doubt"):
            channel.doubt()

    def adopt(self, consumer: Any, queues: Collection[str]) -> None:
        """Register queues that hold messages and that this worker does not follow, and look at once."""
        names = {queue for queue in queues if workflow_of(queue)}
        if names:
            consumer.call_soon(self._adopt, consumer, names)

    def _adopt(self, consumer: Any, names: set[str]) -> None:
        with suppress(redis.RedisError):  # the next look logs that the server is unreachable
            self.registry.adopt(names)
            self.known = -1
        self.look(consumer)

    def follow(self, consumer: Any, queues: Iterable[str]) -> None:
        """Consume from these queues, too."""
        task_consumer = consumer.task_consumer
        cancelled = getattr(consumer, "cancelled", ())
        new = [name for name in sorted(queues) if name not in cancelled and not task_consumer.consuming_from(name)]
        for name in new:
            declared = consumer.app.amqp.queues
            queue = declared.select_add(declared[name])
            # A Redis list needs no declaration, which would take several round trips for each queue.
            queue.no_declare = not self.amqp
            task_consumer.add_queue(queue)
            if self.amqp:
                rabbitmq.follow(consumer.connection, queue)
        if new:
            self.followed.update(new)
            # Before the worker's loop starts there is no callback; the loop consumes from all queues when it starts.
            if task_consumer.on_message is not None:
                task_consumer.consume()
            log.info("consuming from %s", _listed(new))

    def leave(self, consumer: Any, queues: Collection[str]) -> None:
        """Stop consuming from queues that the registry has forgotten. Their messages in flight are not affected."""
        task_consumer = consumer.task_consumer
        for name in queues:
            consumer.app.amqp.queues.deselect(name)
            task_consumer.cancel_by_queue(name)
        if queues:
            self.followed.difference_update(queues)
            log.info("no longer consuming from %s: no jobs for a while", _listed(sorted(queues)))


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= MAX_LISTED else f"{len(names)} queues"
