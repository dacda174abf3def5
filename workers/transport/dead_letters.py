"""Messages that no worker can read: set aside with the reason, listed, put back or dropped.

A poisoned message (no JSON, a task that nobody knows, headers of the wrong type) must neither stop a worker nor come
back for ever. It is kept for 30 days, since it may be somebody's job written by a producer with a bug.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from limits.client.connection import Server
from workers.transport.broker import Broker

if TYPE_CHECKING:
    import redis

_PAGE = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message. `at` in seconds since the epoch; `message` as it was on the wire, and private."""

    id: str
    queue: str
    reason: str
    at: float
    message: bytes


def listed(client: "redis.Redis", broker: Broker) -> Iterator[DeadLetter]:
    """The dead messages, oldest first."""
    after = "-"
    while True:
        page = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(_key(broker), after, "+", count=_PAGE))
        for raw, fields in page:
            name = raw.decode()
            queue = fields[b"list"].decode(errors="replace")
            reason = fields[b"reason"].decode(errors="replace")
            yield DeadLetter(name, queue, reason, int(name.partition("-")[0]) / 1000, fields[b"message"])
        if len(page) < _PAGE:
            return
        after = "(" + page[-1][0].decode()


def replay(client: "redis.Redis", broker: Broker, ids: Iterable[str]) -> int:
    """Put messages back into their queues; how many there were."""
    return Server(client).run(broker.replay(list(ids)))


def drop(client: "redis.Redis", broker: Broker, ids: Iterable[str]) -> int:
    """Forget messages for good; how many there were."""
    names = list(ids)
    return client.xdel(_key(broker), *names) if names else 0


def _key(broker: Broker) -> str:
    return broker.prefix + broker.keys.dead
