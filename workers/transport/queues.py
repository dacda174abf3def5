"""One queue for each workflow, its lists in Redis and how many messages they hold."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

from limits.keys import Keys

if TYPE_CHECKING:
    import redis

#: A workflow's queue is this and its name.
PREFIX: Final = "workflow."

#: The namespace whose broker keys have no prefix.
DEFAULT_NAMESPACE: Final = "overnight"

#: The bits of a delay, which RabbitMQ leaves before a routing key.
_DELAY = re.compile(r"^(?:[01]\.){28}")

#: A workflow's name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

#: kombu's priorities. Each is a list in Redis; 0 is claimed first, and its list has the queue's name alone.
PRIORITIES: Final = (0, 3, 6, 9)

#: Between a queue's name and its priority in the name of a list, as in kombu.
SEPARATOR: Final = "\x06\x16"


def queue_name(workflow: str) -> str:
    """The Celery queue of a workflow."""
    return PREFIX + workflow


@lru_cache(4096)
def workflow_of(queue: str) -> str | None:
    """The workflow of a queue or routing key; None if it is not a workflow's."""
    queue = _DELAY.sub("", queue, count=1)
    name = queue.removeprefix(PREFIX)
    return name if name != queue and _NAME.fullmatch(name) else None


def is_workflow_name(name: str) -> bool:
    """Whether a workflow may have this name: up to 128 letters, digits, `-`, `_` and `.`."""
    return _NAME.fullmatch(name) is not None


def key_prefix(namespace: str) -> str:
    """The prefix of the broker's keys: empty, so that stock producers need no option.

    A second installation on the same server has a namespace, and so a prefix and queues of its own.
    """
    return "" if namespace == DEFAULT_NAMESPACE else namespace + "."


def register(client: "redis.Redis", keys: Keys, workflow: str) -> None:
    """Let every running worker consume from this workflow's queue, within half a second."""
    client.sadd(keys.queues, queue_name(workflow))


def registered(client: "redis.Redis", keys: Keys) -> set[str]:
    """The queues that workers follow."""
    return {name.decode() for name in cast("set[bytes]", client.smembers(keys.queues))}


@dataclass(frozen=True, slots=True)
class Depth:
    """The messages of a queue: `ready` to be claimed, `in_flight` in workers, `delayed` until their time."""

    ready: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        """All messages that are not acknowledged."""
        return self.ready + self.in_flight + self.delayed

    def __add__(self, other: "Depth") -> "Depth":
        return Depth(self.ready + other.ready, self.in_flight + other.in_flight, self.delayed + other.delayed)


def lists(queue: str) -> tuple[str, ...]:
    """The Redis lists of a queue, one for each priority."""
    return tuple(f"{queue}{SEPARATOR}{step}" if step else queue for step in PRIORITIES)


def depths(
    client: "redis.Redis", keys: Keys, queues: Iterable[str] | None = None, prefix: str | None = None
) -> dict[str, Depth]:
    """The depth of each of `queues`, by name; None for all registered queues. Only for a broker on Redis.

    It takes one round trip and counts the parts at slightly different moments. `prefix` overrides the namespace's key
    prefix.
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
