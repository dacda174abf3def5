"""One queue a workflow, followed by every worker while it is in the registry (workers/transport/registry.py)."""

import logging
import re
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, cast

import redis
from celery import bootsteps
from redis.backoff import NoBackoff
from redis.retry import Retry

from limits.client.connection import open_client
from limits.keys import Keys
from workers.transport.gates import gates

log = logging.getLogger(__name__)

PREFIX = "workflow."
DEFAULT_NAMESPACE = "overnight"
_DELAY = re.compile(r"^(?:[01]\.){28}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

#: Seconds between two looks at the registry; and until it is read again although it holds as many names as before.
LOOK_EVERY, READ_EVERY = 0.5, 10.0

#: Seconds between two tries of a worker to be the one that scans for queues of stock producers.
SCAN_TURN: Final = 1.0

#: Up to so many new queues are named in the log.
TOLD = 10


#: A queue is a list a priority in Redis, named as kombu names them: the queue's name alone is priority 0, the first.
PRIORITIES: Final = (0, 3, 6, 9)
SEPARATOR: Final = "\x06\x16"


def queue_name(workflow: str) -> str:
    """The Celery queue of a workflow."""
    return PREFIX + workflow


@lru_cache(4096)
def workflow_of(queue: str) -> str | None:
    """The workflow of a Celery queue, or None where the queue is none of ours.

    A routing key says it too: RabbitMQ leaves the bits of a delay before it.
    """
    queue = _DELAY.sub("", queue, count=1)
    name = queue.removeprefix(PREFIX)
    return name if name != queue and _NAME.fullmatch(name) else None


def is_workflow_name(name: str) -> bool:
    """Whether a workflow may be called this: letters, digits, `-`, `_` and `.`, 128 at most."""
    return _NAME.fullmatch(name) is not None


def key_prefix(namespace: str) -> str:
    """What the broker's keys begin with: nothing, so that stock producers need nothing, but for a second installation
    on the same server, which has queues of its own.
    """
    return "" if namespace == DEFAULT_NAMESPACE else namespace + "."


def register(client: "redis.Redis", keys: Keys, workflow: str) -> None:
    """Make every running worker consume this workflow's queue, within `LOOK_EVERY` seconds."""
    client.sadd(keys.queues, queue_name(workflow))


def registered(client: "redis.Redis", keys: Keys) -> set[str]:
    """The queues that workers follow."""
    return {name.decode() for name in cast("set[bytes]", client.smembers(keys.queues))}


@dataclass(frozen=True, slots=True)
class Depth:
    """What a queue holds: `ready` to be claimed, `in_flight` in workers, `delayed` until their time has come."""

    ready: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        """Everything that is not acknowledged."""
        return self.ready + self.in_flight + self.delayed

    def __add__(self, other: "Depth") -> "Depth":
        return Depth(self.ready + other.ready, self.in_flight + other.in_flight, self.delayed + other.delayed)


def lists(queue: str) -> tuple[str, ...]:
    """The Redis lists of a queue, one a priority."""
    return tuple(f"{queue}{SEPARATOR}{step}" if step else queue for step in PRIORITIES)


def depths(
    client: "redis.Redis", keys: Keys, queues: Iterable[str] | None = None, prefix: str | None = None
) -> dict[str, Depth]:
    """What each workflow queue holds now, by the queue's name; of `queues`, else of all that are registered.

    One round trip, for brokers on Redis. The parts are counted at slightly different moments. `prefix` is what the
    broker's keys begin with, if not what the namespace says.
    """
    before = key_prefix(keys.namespace) if prefix is None else prefix
    names = sorted(registered(client, keys) if queues is None else set(queues))
    if not names:
        return {}
    pipeline = client.pipeline(transaction=False)
    pipeline.hmget(before + keys.in_flight, names)
    pipeline.hmget(before + keys.delayed_counts, names)
    for name in names:
        for key in lists(name):
            pipeline.llen(before + key)
    in_flight, delayed, *lengths = pipeline.execute()
    width = len(PRIORITIES)
    return {
        name: Depth(sum(lengths[i * width : (i + 1) * width]), int(in_flight[i] or 0), int(delayed[i] or 0))
        for i, name in enumerate(names)
    }


class Newcomers:
    """Tells whoever follows queues that there is a message in one that it does not follow yet."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Collection[str]], None]] = []

    def told(self, queues: Collection[str]) -> None:
        """There are messages in these queues, and this worker does not consume them."""
        for listener in tuple(self.listeners):
            listener(queues)


newcomers = Newcomers()


@dataclass(frozen=True, slots=True)
class Policy:
    """How a queue is to be treated.

    `weight`: its share beside others. `cap`: how many may be in flight in all workers, 0 for any number. `urgent`:
    may use the slots that are kept for urgent work. `allowed`: how many may be claimed now, None for any number, 0
    while it is gated. `shared`: its share is a part of the one that all unconfigured workflows have together.
    """

    weight: float = 1.0
    cap: int = 0
    urgent: bool = False
    allowed: int | None = None
    shared: bool = False


def policy(queue: str) -> Policy:
    """How this worker treats a queue now: its workflow's settings, and its gate."""
    from workers.celery import current_settings  # noqa: PLC0415 - the app imports this module

    workflow = workflow_of(queue)
    if workflow is None:
        return Policy()
    settings = current_settings()
    chosen = settings.workflow(workflow)
    shared = workflow not in settings.workflows
    return Policy(chosen.weight, chosen.concurrency, chosen.priority == "urgent", gates.allowed(workflow), shared)


def claimed(queue: str, count: int) -> None:
    """So many messages of a queue were claimed just now: its gate may be ajar."""
    if workflow := workflow_of(queue):
        gates.claimed(workflow, count)


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
        from workers.celery import current_settings  # noqa: PLC0415 - the app imports this module
        from workers.embedded import server_url  # noqa: PLC0415 - as above
        from workers.transport import rabbitmq  # noqa: PLC0415 - what only a worker needs
        from workers.transport.broker import broker_url  # noqa: PLC0415 - as above
        from workers.transport.registry import Registry  # noqa: PLC0415 - it reads queues with what is in this module

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
        newcomers.listeners.append(self.listener)

    def stop(self, consumer: Any) -> None:
        """Stop looking; the consumer is closing."""
        del consumer
        if self.listener is not None:
            newcomers.listeners.remove(self.listener)
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
                from workers.transport import rabbitmq  # noqa: PLC0415 - what only a worker needs

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
    return ", ".join(names) if len(names) <= TOLD else f"{len(names)} queues"
