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

#: Seconds until the registry is read again although it holds as many names as before.
READ_EVERY: Final = 10.0

#: Seconds between two tries of a worker to be the one that scans for queues of stock producers.
SCAN_TURN: Final = 1.0

#: The log names up to this many queues, and gives the count of more.
MOST_LISTED: Final = 10


class FollowQueues(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """The worker's step that adds each new workflow queue to what it consumes.

    A worker that was started with `-Q` consumes what it was told to, and nothing else.
    """

    requires = (
        "celery.worker.consumer.tasks:Tasks",
        "celery.worker.consumer.delayed_delivery:DelayedDelivery",  # on RabbitMQ, what new queues are bound to
    )

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.timer_entry: Any = None
        self.client: Any = None
        self.broker: Any = None
        self.unreachable = False
        self.registry: Any = None
        self.known = -1
        self.read_at = 0.0
        self.next_scan = 0.0
        self.amqp = False
        self.followed: set[str] = set()
        self.listener: Any = None

    def start(self, consumer: Any) -> None:
        """Look now, and again every `LOOK_EVERY` seconds, in the worker's own thread."""
        if consumer.app.amqp.queues._consume_from is not None:  # noqa: SLF001 - how Celery keeps its -Q
            return
        settings = current_settings()
        self.amqp = rabbitmq.is_amqp(settings)
        urls = (server_url(settings), broker_url(settings))
        self.client, self.broker = (
            open_client(url, retry=Retry(NoBackoff(), 0)) if url else None
            for url in urls  # the next look is the retry: meanwhile this thread claims
        )
        self.registry = Registry(self.client, Keys(settings.namespace), settings, self.broker)
        self.known = -1
        self.look(consumer)
        self.timer_entry = consumer.timer.call_repeatedly(LOOK_EVERY, self.look, (consumer,))
        self.listener = partial(self.noticed, consumer)
        unfollowed.listeners.append(self.listener)

    def stop(self, consumer: Any) -> None:
        """Stop looking; the consumer is closing."""
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
        """Follow what is wanted now, and nothing else."""
        try:
            now = time.monotonic()
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
                log.warning("queues cannot be followed while the server is unreachable: %s", exc)
            self.unreachable = True
            return
        self.unreachable = False
        self.follow(consumer, queues)
        self.leave(consumer, self.followed - queues)

    def _doubt(self, consumer: Any) -> None:
        """A silent connection is seldom alone: those that claim are made again, too."""
        channel: Any = getattr(consumer.task_consumer, "channel", None)
        if hasattr(channel, "doubt"):
            channel.doubt()

    def noticed(self, consumer: Any, queues: Collection[str]) -> None:
        """There are messages in queues that this worker does not follow yet: register them, and look at once."""
        names = {queue for queue in queues if workflow_of(queue)}
        if names:
            consumer.call_soon(self._adopt, consumer, names)

    def _adopt(self, consumer: Any, names: set[str]) -> None:
        with suppress(redis.RedisError):  # the next look says that the server is unreachable
            self.registry.adopt(names)
            self.known = -1
        self.look(consumer)

    def follow(self, consumer: Any, queues: Iterable[str]) -> None:
        """Consume these queues too, all of them with one round of declarations."""
        task_consumer = consumer.task_consumer
        cancelled = getattr(consumer, "cancelled", ())
        new = [name for name in sorted(queues) if name not in cancelled and not task_consumer.consuming_from(name)]
        for name in new:
            declared = consumer.app.amqp.queues
            queue = declared.select_add(declared[name])
            # On Redis a list needs no declaration, which takes some round trips for each queue.
            queue.no_declare = not self.amqp
            task_consumer.add_queue(queue)
            if self.amqp:
                rabbitmq.follow(consumer.connection, queue)
        if new:
            self.followed.update(new)
            # Before the worker's loop has begun nobody takes messages: it consumes from all queues when it does.
            if task_consumer.on_message is not None:
                task_consumer.consume()
            log.info("consuming from %s", _listed(new))

    def leave(self, consumer: Any, queues: Collection[str]) -> None:
        """Stop consuming queues that the registry has forgotten; what is in flight of them goes on."""
        task_consumer = consumer.task_consumer
        for name in queues:
            consumer.app.amqp.queues.deselect(name)
            task_consumer.cancel_by_queue(name)
        if queues:
            self.followed.difference_update(queues)
            log.info("no longer consuming from %s: no jobs for a while", _listed(sorted(queues)))


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= MOST_LISTED else f"{len(names)} queues"
