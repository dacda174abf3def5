"""One queue a workflow, followed by every worker as it appears.

A producer of ours names its queue in the registry; a stock Celery producer leaves a binding
(`_kombu.binding.workflow.NAME`) in the broker, which one worker at a time looks for and registers.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

import redis
from celery import bootsteps

from limits.keys import Keys

log = logging.getLogger(__name__)

PREFIX = "workflow."
_BINDING = "_kombu.binding."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

#: Seconds between two looks at the registry, and between two scans for queues of stock producers.
LOOK_EVERY, SCAN_EVERY = 0.5, 2.0


#: A queue is a list a priority in Redis, named as kombu names them: the queue's name alone is priority 0, the first.
PRIORITIES: Final = (0, 3, 6, 9)
SEPARATOR: Final = "\x06\x16"


def queue_name(workflow: str) -> str:
    """The Celery queue of a workflow."""
    return PREFIX + workflow


def workflow_of(queue: str) -> str | None:
    """The workflow of a Celery queue, or None where the queue is none of ours."""
    name = queue.removeprefix(PREFIX)
    return name if name != queue and _NAME.fullmatch(name) else None


def is_workflow_name(name: str) -> bool:
    """Whether a workflow may be called this: letters, digits, `-`, `_` and `.`, 128 at most."""
    return _NAME.fullmatch(name) is not None


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


def lists(queue: str) -> tuple[str, ...]:
    """The Redis lists of a queue, one a priority."""
    return tuple(f"{queue}{SEPARATOR}{step}" if step else queue for step in PRIORITIES)


def depths(client: "redis.Redis", keys: Keys, queues: Iterable[str] | None = None) -> dict[str, Depth]:
    """What each workflow queue holds now, by the queue's name; of `queues`, else of all that are registered.

    One round trip, for brokers on Redis. The parts are counted at slightly different moments.
    """
    names = sorted(registered(client, keys) if queues is None else set(queues))
    if not names:
        return {}
    pipeline = client.pipeline(transaction=False)
    pipeline.hmget(keys.in_flight, names)
    pipeline.hmget(keys.delayed_counts, names)
    for name in names:
        for key in lists(name):
            pipeline.llen(key)
    in_flight, delayed, *lengths = pipeline.execute()
    width = len(PRIORITIES)
    return {
        name: Depth(sum(lengths[i * width : (i + 1) * width]), int(in_flight[i] or 0), int(delayed[i] or 0))
        for i, name in enumerate(names)
    }


def adopt_bindings(client: "redis.Redis", keys: Keys) -> None:
    """Register the queues that stock producers made; one process does it for all, `SCAN_EVERY` seconds apart."""
    if not client.set(keys.queue_scan, b"1", px=int(SCAN_EVERY * 1000), nx=True):
        return
    found = []
    for key in client.scan_iter(match=f"{_BINDING}{PREFIX}*", count=1000):
        queue = key.decode(errors="replace").removeprefix(_BINDING)
        if workflow_of(queue):
            found.append(queue)
    if found:
        client.sadd(keys.queues, *found)


class FollowQueues(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """The worker's step that adds each new workflow queue to what it consumes.

    A worker that was started with `-Q` consumes what it was told to, and nothing else.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.timer_entry: Any = None
        self.unreachable = False

    def start(self, consumer: Any) -> None:
        """Look now, and again every `LOOK_EVERY` seconds, in the worker's own thread."""
        from workers.celery import current_settings  # noqa: PLC0415 - the app imports this module

        if consumer.app.amqp.queues._consume_from is not None:  # noqa: SLF001 - how Celery keeps its -Q
            return
        settings = current_settings()
        self.keys = Keys(settings.namespace)
        self.client = redis.Redis.from_url(consumer.app.conf.result_backend, socket_timeout=5, socket_connect_timeout=5)
        self.look(consumer)
        self.timer_entry = consumer.timer.call_repeatedly(LOOK_EVERY, self.look, (consumer,))

    def stop(self, consumer: Any) -> None:
        """Stop looking; the consumer is closing."""
        del consumer
        if self.timer_entry is not None:
            self.timer_entry.cancel()
            self.timer_entry = None
            self.client.close()

    shutdown = stop

    def look(self, consumer: Any) -> None:
        """Add what is registered and not yet consumed."""
        try:
            adopt_bindings(self.client, self.keys)
            queues = registered(self.client, self.keys)
        except redis.RedisError as exc:
            if not self.unreachable:
                log.warning("queues cannot be followed while the server is unreachable: %s", exc)
            self.unreachable = True
            return
        self.unreachable = False
        for queue in sorted(queues):
            if not consumer.task_consumer.consuming_from(queue):
                consumer.add_task_queue(queue)
