"""Dead letters: messages that no worker can run, listed, replayed or dropped.

A malformed message (no JSON, an unknown task, headers of a wrong type) must neither stop a worker nor be delivered for
ever. It is kept for 30 days, since it may be a job from a producer with a bug.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from limits.client.connection import Server
from workers.transport.broker import Broker

if TYPE_CHECKING:
    import redis

#: Dead letters that one command reads.
_PAGE = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message. `at` is in seconds since the epoch. `message` is what was on the wire, and private."""

    id: str
    queue: str
    reason: str
    at: float
    message: bytes


def listed(client: "redis.Redis", broker: Broker) -> Iterator[DeadLetter]:
    """All dead letters, oldest first."""
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
    """Put dead letters back into their queues. Returns how many were put back."""
    return Server(client).run(broker.replay(list(ids)))


def drop(client: "redis.Redis", broker: Broker, ids: Iterable[str]) -> int:
    """Delete dead letters. Returns how many were deleted."""
    names = list(ids)
    return client.xdel(_key(broker), *names) if names else 0


def _key(broker: Broker) -> str:
    return broker.prefix + broker.keys.dead
