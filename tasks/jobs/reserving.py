"""A job's steps up to its call: begin, reserve its capacity and money, wait until it may be sent."""

import asyncio
import time
from dataclasses import replace

from limits.admission import admit, sent
from limits.feedback import unblock_account
from limits.reservation import Admitted, Denied
from limits.reservation import Answer as Admission
from tasks.jobs import hooks, store
from tasks.jobs.attempt import MAX_AHEAD, Attempt
from tasks.jobs.job import Job
from tasks.jobs.settling import Settling
from tasks.jobs.state import JobState
from tasks.jobs.store import Begun
from workers.config.credentials import fingerprint
from workers.config.settings import SettingsError


class Revoked(Exception):  # noqa: N818 - not an error: the reservation is gone, and the job asks for another
    """The reservation ended before the call could be sent."""


class Reserving(Settling):
    """The steps of a job that come before its call."""

    async def begin(self, job: Job, state: JobState) -> Begun:
        """Ask whether this delivery may run the job."""
        return await self.server.run(store.begin(self.keys, job, state.owner, self.lease))

    async def admit(self, attempt: Attempt, *, for_waitlist: bool = False) -> Admission:
        """Ask for a reservation. If it is granted, `attempt.route` is the chosen one.

        `for_waitlist`: the job waits in a waitlist (jobs/waitlist.py).
        """
        if for_waitlist != attempt.ask.for_waitlist:
            attempt.ask = replace(attempt.ask, for_waitlist=for_waitlist)
        attempt.asked_at = time.monotonic()
        try:
            answer = await self.server.run(admit(self.keys, attempt.ask))
            while isinstance(answer, Denied) and answer.reason == "latch" and await self._has_new_key(answer.subject):
                answer = await self.server.run(admit(self.keys, attempt.ask))
        except BaseException:
            # The server may have granted it. If it were kept, it would count as a call that was sent.
            await self.release(attempt)
            raise
        if isinstance(answer, Admitted):
            attempt.admitted(answer)
            self.leases.reservations.add(attempt.ask.id)
            self.waitlists.admitted(attempt)
            if attempt.is_sent:
                self.waitlists.cleared(attempt)
        hooks.admitted(attempt, answer)
        return answer

    async def wait_until_sent(self, attempt: Attempt) -> None:
        """Wait until the call may be sent. Raises Revoked if its reservation was taken back before that."""
        try:
            while not attempt.is_sent:
                await asyncio.sleep(attempt.wait)
                self.stops.check(attempt.job)
                attempt.asked_at = time.monotonic()
                reply = await self.server.run(sent(self.keys, attempt.ask.id, self.owner))
                if reply.verdict == "sent":
                    attempt.is_sent = True
                    self.waitlists.cleared(attempt)
                elif reply.verdict == "wait" and reply.wait <= MAX_AHEAD:
                    attempt.wait = reply.wait
                else:
                    raise Revoked(reply.reason)  # noqa: TRY301 - the reservation is given back below
        except BaseException:
            await self.release(attempt)
            raise

    async def _has_new_key(self, account: str) -> bool:
        """Whether a blocked account has another key than the one that was refused. If so, it is unblocked."""
        provider, _, rest = account.partition("/")
        try:
            key = self.settings.providers[provider].key(int(rest.partition("/")[0]))
        except (SettingsError, KeyError, IndexError, ValueError):
            return False
        return await self.server.run(unblock_account(self.keys, account, key=fingerprint(key)))
