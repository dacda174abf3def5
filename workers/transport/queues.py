"""One queue a workflow, followed by every worker while it is in the registry (workers/transport/registry.py)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

from limits.keys import Keys

if TYPE_CHECKING:
    import redis

PREFIX = "workflow."
DEFAULT_NAMESPACE = "overnight"
_DELAY = re.compile(r"^(?:[01]\.){28}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

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
    """Make every running worker consume this workflow's queue, within half a second."""
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
