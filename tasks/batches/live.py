"""What all live batches have out: a cache for the ticks of one process.

A tick needs to know what the other batches have out. Reading a thousand batches for each tick would take too long, so
a reading is cached for a second, or longer if it takes long. What this process publishes is counted at once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tasks.batches.batch import ENDED, Batch
from tasks.batches.store import Store

#: Seconds for which a reading is cached.
FRESH: Final = 1.0

#: A reading is cached at least for this multiple of the time that it took.
TIMES: Final = 20.0

#: Seconds between two comparisons of a workflow's messages with its jobs that are out.
COMPARE_EVERY: Final = 5.0

_FIELDS: Final = ("workflow", "status", "total", "bytes", "fed", "completed", "failed", "offloaded", "fed_each")

#: Counts the messages of a workflow: queued, in flight or delayed; None if the broker doesn't say.
Depth = Callable[[str], int | None]


@dataclass(slots=True)
class Out:
    """What a live batch has out: jobs that were published and have not ended, of `each` bytes."""

    workflow: str
    jobs: int
    each: int


class Live:
    """What all live batches have out. A reading is cached for `fresh` seconds."""

    def __init__(self, store: Store, fresh: float = FRESH) -> None:
        self.store = store
        self.fresh = fresh
        self._until = 0.0
        self._out: dict[str, Out] = {}
        self._used = 0
        self._short: dict[str, tuple[float, int]] = {}

    def used(self) -> int:
        """The bytes of input that all live batches have out."""
        self._look()
        return self._used

    def handed_out(self, batch: Batch, jobs: int) -> None:
        """Count `jobs` that this process has just published."""
        found = self._out.setdefault(batch.id, Out(batch.workflow, 0, batch.each))
        found.jobs += jobs
        self._used += jobs * batch.each

    def missing(self, workflow: str, depth: Depth) -> int | None:
        """The number of a workflow's messages that are missing; None if the broker doesn't say.

        Each workflow is compared once in `COMPARE_EVERY` seconds, however many batches ask.
        """
        now = time.monotonic()
        at, found = self._short.get(workflow, (0.0, 0))
        if self.fresh and now - at < COMPARE_EVERY and at:
            return found
        before = depth(workflow)
        if before is None:
            return None
        self._look()
        ids = [name for name, out in self._out.items() if out.workflow == workflow]
        found = 0
        if before < sum(self._out[name].jobs for name in ids):
            owed = sum(out.jobs for out in self._read(ids).values())
            # A job may end or be published between the two counts: the larger one counts.
            found = max(0, owed - max(before, depth(workflow) or 0))
        self._short[workflow] = (now, found)
        return found

    def _look(self) -> None:
        began = time.monotonic()
        if began < self._until:
            return
        self._out = self._read(self.store.live_ids())
        self._used = sum(out.jobs * out.each for out in self._out.values())
        self._short = {name: seen for name, seen in self._short.items() if began - seen[0] < COMPARE_EVERY}
        ended = time.monotonic()
        self._until = ended + max(self.fresh, TIMES * (ended - began)) if self.fresh else 0.0

    def _read(self, ids: list[str]) -> dict[str, Out]:
        pipeline: Any = self.store.client.pipeline(transaction=False)
        for name in ids:
            pipeline.hmget(self.store.keys.batch(name), _FIELDS)
        return {name: out for name, record in zip(ids, pipeline.execute(), strict=True) if (out := _out(record))}


def _out(record: list[bytes | None]) -> Out | None:
    """Read a record; None if it is missing, or its batch has ended."""
    workflow, status, *numbers = record
    if workflow is None or status is None or status.decode() in ENDED:
        return None
    total, size, fed, completed, failed, offloaded, each = (int(number or 0) for number in numbers)
    return Out(workflow.decode(), max(0, fed - completed - failed - offloaded), max(size // max(total, 1), each, 1))
