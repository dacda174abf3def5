"""Batches and workflows that someone has paused: nothing new of them starts, and what is in flight finishes.

Every worker reads the pauses twice a second. It claims nothing from a paused workflow's queue. Jobs that it has claimed
go back to their queue, as do those of a paused batch, whose queue has the jobs of other batches, too.
"""

import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from limits.client.async_connection import AsyncServer
from limits.keys import Keys
from tasks.jobs.job import Job

if TYPE_CHECKING:
    import redis

#: Seconds that a pause lasts if nobody ends it: longer than any deadline.
LIFETIME: Final = 90 * 86_400

#: Seconds after which a job of a paused batch looks again: at first, and at most. It waits about as long as the pause
#: has lasted, so that a short one ends at once, and a long one costs little.
SHORTEST, LONGEST = 3.0, 60.0


def of_batch(batch_id: str) -> str:
    """A batch's name among the pauses."""
    return f"batch/{batch_id}"


def of_workflow(workflow: str) -> str:
    """A workflow's name among the pauses."""
    return f"workflow/{workflow}"


def since(paused: Mapping[str, float], workflow: str, batch_id: str | None) -> tuple[str, float] | None:
    """What is paused, the batch or its workflow, and since when in seconds since the epoch; None if neither is."""
    names = (of_workflow(workflow), *((of_batch(batch_id),) if batch_id else ()))
    return next(((name, paused[name]) for name in names if name in paused), None)


def decode(raw: Mapping[bytes, bytes]) -> dict[str, float]:
    """The pauses, as Redis has them."""
    return {name.decode(): float(at) for name, at in raw.items()}


def read(client: "redis.Redis", keys: Keys) -> dict[str, float]:
    """The pauses: since when each name is paused."""
    found: Any = client.hgetall(keys.paused)
    return decode(found)


def pause(client: "redis.Redis", keys: Keys, name: str) -> bool:
    """Pause a batch or a workflow. Returns False if it was paused already."""
    fresh = bool(client.hsetnx(keys.paused, name, str(time.time())))
    client.expire(keys.paused, LIFETIME)
    return fresh


def resume(client: "redis.Redis", keys: Keys, name: str) -> bool:
    """End a pause. Returns False if there was none."""
    return bool(client.hdel(keys.paused, name))


def command(name: str) -> str:
    """The command that ends a pause."""
    kind, _, which = name.partition("/")
    return f"overnight resume {which}" if kind == "batch" else f"overnight resume --workflow {which}"


def words(name: str) -> str:
    """What is paused and how to go on, for people."""
    return f"its {name.partition('/')[0]} is paused; to go on: {command(name)}"


class Pauses:
    """The pauses, as this worker read them last."""

    def __init__(self, server: AsyncServer, keys: Keys) -> None:
        self._server = server
        self._keys = keys
        self._paused: dict[str, float] | None = None

    async def look(self) -> None:
        """Read the pauses."""
        found = await self._server.execute("HGETALL", self._keys.paused)
        pairs = found.items() if isinstance(found, Mapping) else zip(found[::2], found[1::2], strict=True)
        self._paused = decode(dict(pairs))

    async def ready(self) -> None:
        """Read the pauses, unless that has been done: a new worker must not start what is paused."""
        if self._paused is None:
            await self.look()

    def workflows(self) -> frozenset[str]:
        """The paused workflows."""
        kinds = (name.partition("/") for name in self._paused or ())
        return frozenset(which for kind, _, which in kinds if kind == "workflow")

    def of(self, job: Job) -> tuple[str, float] | None:
        """Why a job must not start, in words, and after how many seconds it may look again; None if it may start."""
        found = since(self._paused, job.workflow, job.batch) if self._paused else None
        if found is None:
            return None
        name, began = found
        seconds = min(max(time.time() - began, SHORTEST), LONGEST)
        return words(name), seconds * (0.75 + 0.5 * random.random())
