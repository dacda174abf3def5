"""What a worker holds: the leases of its jobs and of what is reserved for them, each kept up as one, and given up.

A lease that is not renewed ends by itself: whatever a worker leaves behind that is gone, others sweep up.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from limits.admission import renew, sweep
from limits.client.async_connection import AsyncServer
from limits.keys import Keys
from tasks.jobs import store
from tasks.jobs.job import Job

#: Leases that are renewed at a time, of jobs or of reservations.
AT_A_TIME = 250


class Leases:
    """The leases of one event loop, of `seconds` each. `owner` is who holds its reservations."""

    def __init__(self, server: AsyncServer, keys: Keys, owner: str, seconds: float) -> None:
        self.server = server
        self.keys = keys
        self.owner = owner
        self.seconds = seconds
        self.reservations: set[str] = set()
        self._jobs: dict[str, tuple[Job, str]] = {}

    @asynccontextmanager
    async def held(self, job: Job, delivery: str) -> AsyncIterator[None]:
        """Keep the job's lease renewed; give it up when the job goes back into its queue."""
        self._jobs[job.id] = (job, delivery)
        try:
            yield
        except BaseException:
            # The lease ends by itself if the server cannot be told now.
            with_server = self.server.run(store.leave(self.keys, job, delivery))
            await asyncio.gather(with_server, return_exceptions=True)
            raise
        finally:
            self._jobs.pop(job.id, None)

    def batches(self) -> dict[str, int]:
        """The batches of the jobs that run here, and the latest round of each."""
        found: dict[str, int] = {}
        for job, _ in self._jobs.values():
            if job.batch:
                found[job.batch] = max(job.round, found.get(job.batch, 0))
        return found

    async def renew(self) -> None:
        """Renew the leases of all jobs in flight, and of what is reserved for them; so many at a time."""
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
        # Swept while the server or this process was away: the end of their calls corrects what was presumed.
        self.reservations.difference_update(renewal.lost)

    async def sweep(self) -> None:
        """End what workers have left behind that are gone. Admissions do so, too, while there are any."""
        while (await self.server.run(sweep(self.keys))).more:
            pass
