"""The leases of a worker's jobs and reservations: renewed together, and given up when a job goes back to its queue.

A lease that isn't renewed ends. When a worker dies, other workers sweep what it held.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from limits.admission import renew, sweep
from limits.client.async_connection import AsyncServer
from limits.keys import Keys
from tasks.jobs import store
from tasks.jobs.job import Job

#: How many leases one round trip renews.
AT_A_TIME = 250


class Leases:
    """The leases of one event loop, of `seconds` each. `owner` is the holder of its reservations."""

    def __init__(self, server: AsyncServer, keys: Keys, owner: str, seconds: float) -> None:
        self.server = server
        self.keys = keys
        self.owner = owner
        self.seconds = seconds
        self.reservations: set[str] = set()
        self._jobs: dict[str, tuple[Job, str]] = {}

    @asynccontextmanager
    async def held(self, job: Job, delivery: str) -> AsyncIterator[None]:
        """Keep the job's lease renewed; give it up if the job goes back to its queue."""
        self._jobs[job.id] = (job, delivery)
        try:
            yield
        except BaseException:
            # If the server is unreachable now, the lease ends when its time is over.
            given_up = self.server.run(store.leave(self.keys, job, delivery))
            await asyncio.gather(given_up, return_exceptions=True)
            raise
        finally:
            self._jobs.pop(job.id, None)

    def batches(self) -> dict[str, int]:
        """The latest round of each batch whose jobs run here, by the batch's id."""
        found: dict[str, int] = {}
        for job, _ in self._jobs.values():
            if job.batch:
                found[job.batch] = max(job.round, found.get(job.batch, 0))
        return found

    async def renew(self) -> None:
        """Renew the leases of all jobs in flight and of their reservations, `AT_A_TIME` per round trip."""
        held, jobs = list(self.reservations), list(self._jobs.values())
        for start in range(0, len(held), AT_A_TIME):
            await self._renew_reservations(held[start : start + AT_A_TIME])
        for start in range(0, len(jobs), AT_A_TIME):
            some = jobs[start : start + AT_A_TIME]
            await asyncio.gather(
                *(self.server.run(store.renew(self.keys, job, delivery, self.seconds)) for job, delivery in some)
            )

    async def _renew_reservations(self, held: list[str]) -> None:
        renewal = await self.server.run(renew(self.keys, held, self.owner, self.seconds))
        # These were swept while the server or this process was away. Settling them later corrects what was presumed.
        self.reservations.difference_update(renewal.lost)

    async def sweep(self) -> None:
        """End the reservations of dead workers. Each admission sweeps too, so this is for idle times."""
        while (await self.server.run(sweep(self.keys))).more:
            pass
