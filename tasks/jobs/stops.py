"""Batches that were cancelled or have expired while their jobs wait in this worker.

A job that waits for room holds its lease, and nothing would tell it that its batch runs no more jobs: it would go out
as soon as there is room, and be paid for. So the worker looks at the batches of its jobs twice a second.
"""

import asyncio
from collections.abc import Callable, Mapping

from limits.client.async_connection import AsyncServer
from limits.keys import Keys
from tasks.jobs.job import Job


class Stopped(Exception):  # noqa: N818 - it is no error: the job's line is ended with the others of its batch
    """The job's batch runs no more jobs."""


class Stops:
    """Which of the batches that `running` names have been stopped. `running`: their latest rounds, by id.

    `notice` is called when one more has been.
    """

    def __init__(
        self, server: AsyncServer, keys: Keys, running: Callable[[], Mapping[str, int]], notice: Callable[[], None]
    ) -> None:
        self._server = server
        self._keys = keys
        self._running = running
        self._notice = notice
        self._stopped: dict[str, int] = {}

    def check(self, job: Job) -> None:
        """Stopped if the job's batch runs no more jobs of its round."""
        if job.batch and job.round <= self._stopped.get(job.batch, -1):
            raise Stopped

    async def look(self) -> None:
        """Look at the batches whose jobs run here."""
        rounds = dict(self._running())
        records = await asyncio.gather(
            *(self._server.execute("HMGET", self._keys.batch(name), "status", "round") for name in rounds)
        )
        before, self._stopped = self._stopped, {}
        for name, (status, round_) in zip(rounds, records, strict=True):
            if status is not None:
                self._stopped[name] = int(round_) - (status == b"in_progress")
        if any(round_ > before.get(name, -1) for name, round_ in self._stopped.items()):
            self._notice()
