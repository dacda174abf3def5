"""Finds messages that a stock producer has pushed: it announces them to no one.

The worker that sweeps looks through its queues several times a second for all workers. Other workers look only at
queues that the sweeping worker may not follow.
"""

from collections.abc import Collection
from functools import lru_cache
from typing import Final

from limits.client.scripts import Call
from workers.transport.broker import Broker
from workers.transport.queues import lists, workflow_of

#: Up to this many queues count as chosen for this worker with `-Q`.
MAX_CHOSEN: Final = 32

#: Lists that one call looks at.
LISTS_PER_CALL: Final = 1_000

#: Queues that one look covers; with more, the looks take turns.
MAX_QUEUES: Final = 500

#: One look in this many includes the lists of lower priorities: their messages start half a second later at worst.
FULL_LOOK: Final = 8


class Discovery:
    """Which lists the next look covers."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._looks = 0

    def next_look(self, queues: Collection[str]) -> list[Call[int]]:
        """The calls of the next look at these queues. Each reports messages and wakes a worker for them."""
        return _calls(self._broker, *self._turn(queues))

    def _turn(self, queues: Collection[str]) -> tuple[frozenset[str], bool]:
        """The queues of this look, and whether it includes their lists of lower priorities."""
        if len(queues) <= MAX_QUEUES:
            part = frozenset(queues)
            turns = 1
        else:
            turns = -(-len(queues) // MAX_QUEUES)
            part = frozenset(sorted(queues)[self._looks % turns :: turns])
        full = self._looks // turns % FULL_LOOK == 0
        self._looks += 1
        return part, full


def own_queues(watched: Collection[str]) -> set[str]:
    """The queues that the sweeping worker may not follow: chosen for this worker, or not a workflow's."""
    queues = set(watched)
    return queues if len(queues) <= MAX_CHOSEN else {queue for queue in queues if workflow_of(queue) is None}


@lru_cache(maxsize=16)
def _calls(broker: Broker, queues: frozenset[str], full: bool) -> list[Call[int]]:
    keys = [broker.prefix + name for queue in queues for name in (lists(queue) if full else (queue,))]
    return [
        broker.find_unannounced(keys[start : start + LISTS_PER_CALL]) for start in range(0, len(keys), LISTS_PER_CALL)
    ]
