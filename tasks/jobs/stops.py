"""Which batches were cancelled or expired while their jobs wait in this worker.

A waiting job holds its lease and would not learn that its batch has stopped: once there is capacity it would be sent
and billed. So the worker reads the status of its jobs' batches twice a second.
"""

import asyncio
from collections.abc import Callable, Mapping

from limits.client.async_connection import AsyncServer
from limits.keys import Keys
from tasks.jobs.job import Job


class Stopped(Exception):  # noqa: N818 - not an error: the batch ends this job's line with its other lines
    """The job's batch runs no more jobs."""


class Stops:
    """The stopped batches among those that run here. `running` returns the latest round of each batch, by its id."""

    def __init__(self, server: AsyncServer, keys: Keys, running: Callable[[], Mapping[str, int]]) -> None:
        self._server = server
        self._keys = keys
        self._running = running
        self._stopped: dict[str, int] = {}

    def check(self, job: Job) -> None:
        """Raise Stopped if the batch runs no more jobs of this job's round."""
        if self.has_stopped(job):
            raise Stopped

    def has_stopped(self, job: Job) -> bool:
        """Whether the batch runs no more jobs of this job's round."""
        return bool(job.batch) and job.round <= self._stopped.get(job.batch or "", -1)

    async def look(self) -> None:
        """Read the status of each batch whose jobs run here."""
        rounds = dict(self._running())
        records = await asyncio.gather(
            *(self._server.execute("HMGET", self._keys.batch(name), "status", "round") for name in rounds)
        )
        self._stopped = {}
        for name, (status, round_) in zip(rounds, records, strict=True):
            if status is not None:
                self._stopped[name] = int(round_) - (status == b"in_progress")
