"""A job's steps up to its call: begin, plan an attempt, reserve its capacity and money, wait until it may be sent."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import replace

from limits.admission import admit, sent
from limits.feedback import unblock_account
from limits.reservation import Admitted, Denied, Impossible
from limits.reservation import Answer as Admission
from tasks.jobs import hooks, retry, store
from tasks.jobs.attempt import MAX_AHEAD, Attempt, plan
from tasks.jobs.job import Job
from tasks.jobs.settling import Settling
from tasks.jobs.state import JobState
from tasks.jobs.store import Begun
from workers.config.credentials import fingerprint
from workers.config.settings import SettingsError
from workers.models.routing import NoPrice


class Revoked(Exception):  # noqa: N818 - not an error: the reservation is gone, and the job asks for another
    """The reservation ended before the call could be sent."""


class Reserving(Settling):
    """The steps of a job that come before its call."""

    async def begin(self, job: Job, state: JobState) -> Begun:
        """Ask whether this delivery may run the job."""
        return await self.server.run(store.begin(self.keys, job, state.owner, self.lease))

    async def prepare(self, job: Job, state: JobState, excluded: Collection[str]) -> Attempt:
        """Plan the next attempt. `excluded`: targets to leave out if there are others.

        Raises NoRoute if no target can take the job, OverCap if it could cost more than its agent's cap has left, and
        LookUpFailed if its price is missing and the price table does not answer.
        """
        await self.priced.ready()
        looked_up: set[str] = set()
        while True:
            try:
                return self._plan(job, state, excluded)
            except NoPrice as missing:
                if missing.target in looked_up:
                    raise
                looked_up.add(missing.target)
                await self.priced.look_up(missing.target)

    def _plan(self, job: Job, state: JobState, excluded: Collection[str]) -> Attempt:
        attempt = plan(
            self.routes,
            self.ratios,
            job,
            state,
            owner=self.owner,
            excluded=excluded,
            now=time.time(),
            lease=self.lease,
            ceilings=self.ceilings,
        )
        if job.spending_cap is not None:
            job.spending_cap.hold(job.call, state.cost + max(each.amount for each in attempt.ask.candidates))
        return attempt

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
                self.cleared(attempt)
        hooks.admitted(attempt, answer)
        return answer

    def not_admitted(
        self,
        job: Job,
        answer: Denied | Impossible,
        *,
        own_model_in: float,
        last_failure: retry.Fail | None,
        excluded_for: float | None = None,
    ) -> retry.Wait | retry.FallBack | retry.Fail:
        """What a job does that was not admitted; the keywords are those of `retry.not_admitted`."""
        workflow = self.settings.workflow(job.workflow)
        return retry.not_admitted(
            answer,
            when_exhausted=workflow.when_exhausted,
            cheaper=workflow.cheaper_than(job.line.model),
            time_left=job.deadline - time.time() if job.deadline else None,
            own_model_in=own_model_in,
            last_failure=last_failure,
            excluded_for=excluded_for,
        )

    async def wait_until_sent(self, attempt: Attempt, state: JobState) -> None:
        """Wait until the call may be sent. Raises Revoked if its reservation was taken back before that."""
        try:
            while not attempt.is_sent:
                self.slow_start.end(state.owner)
                await asyncio.sleep(attempt.wait)
                self.stops.check(attempt.job)
                attempt.asked_at = time.monotonic()
                reply = await self.server.run(sent(self.keys, attempt.ask.id, self.owner))
                if reply.verdict == "sent":
                    attempt.is_sent = True
                    self.waitlists.sent(attempt.ask.id)
                    self.cleared(attempt)
                elif reply.verdict == "wait" and reply.wait <= MAX_AHEAD:
                    attempt.wait = reply.wait
                else:
                    raise Revoked(reply.reason)  # noqa: TRY301 - the reservation is given back below
        except BaseException:
            await self.release(attempt)
            raise

    def cleared(self, attempt: Attempt) -> None:
        """Note that the server let the call be sent: no pause was known when it was asked."""
        for bucket, _ in attempt.route.buckets:
            self.throttles.cleared(bucket, attempt.asked_at)

    async def _has_new_key(self, account: str) -> bool:
        """Whether a blocked account has another key than the one that was refused. If so, it is unblocked."""
        provider, _, rest = account.partition("/")
        try:
            key = self.settings.providers[provider].key(int(rest.partition("/")[0]))
        except (SettingsError, KeyError, IndexError, ValueError):
            return False
        return await self.server.run(unblock_account(self.keys, account, key=fingerprint(key)))
