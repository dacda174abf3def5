"""Getting one attempt admitted: plan, ask, wait and ask again, until it may be sent or the job ends or is snoozed.

    plan ─► ask ─► admitted
              │
              ├─► a bucket is full: join its waitlist, and ask again when it is this job's turn
              ├─► denied for a short time: sleep, and ask again
              ├─► denied for long: snooze, and close the workflow's gate for jobs of this model
              └─► never possible: the job fails

While a job must not try a target that failed, its denials don't touch the workflow's gate: other jobs may.
"""

import asyncio
import random
from functools import partial
from platform import node
from typing import Final, NoReturn

from limits.reservation import Admitted, Answer, Denied, Impossible
from tasks.jobs import flex, planning, retry
from tasks.jobs.attempt import Attempt
from tasks.jobs.delivery import Delivery
from tasks.jobs.priced_routes import AFTER_FAILURE
from tasks.jobs.pricing import LookUpFailed
from tasks.jobs.store import Begun
from tasks.jobs.waitlist import SHORT_PAUSE, WAITLIST_REASONS, Waitlist, opens_in
from tasks.jobs.waitlists import AHEAD
from workers.models.routing import NoRoute, NotConfigured
from workers.pool.coroutine import worker_is_stopping
from workers.request import Snooze
from workers.transport.gates import LONG

#: Seconds: a backoff up to this long is slept through in the worker; a longer one is a snooze, which frees the slot.
#: Other denials are slept through for less (`SHORT_PAUSE`), since a denied job may be one of thousands.
BACKOFF_IN_WORKER: Final = 2.0

#: Seconds until a job that waits for a pause checks whether someone has lifted it (`overnight limits`).
PAUSE_CHECK: Final = 60.0

#: Denials that concern only the job itself: they say nothing about the next job.
OWN_REASONS: Final = frozenset({"retry_budget", "budget_held", "held", "not_before"})

#: Seconds until a job comes back that this worker's configuration doesn't cover; as long the worker claims no more.
OTHER_CONFIGURATION: Final = 5.0


async def begin(delivery: Delivery) -> Begun:
    """Ask whether this delivery may run its job, at the exact time of one that came early from its snooze.

    Raises Snooze if the job's model is closed.
    """
    runtime, begun = delivery.runtime, None
    job = delivery.job = await flex.in_lane(runtime.priced, runtime.flex_refused, delivery.job, delivery.state)
    try:
        await runtime.pauses.ready()
        delivery.snooze_if_paused()
        if not job.line.agent:  # only the agent knows which models it will ask for
            _snooze_if_closed(delivery)
        if early := delivery.state.left():
            await asyncio.sleep(early)
        begun = await delivery.begin()
    finally:
        if job.line.agent or begun is None or begun.verdict != "run":  # it may never ask for admission
            runtime.gates.arrived(job.workflow)
    return begun


async def admit(delivery: Delivery) -> Attempt:
    """The next attempt, admitted and ready to be sent.

    Raises Failed if the job ends without it, Snooze if it must wait in its queue, and Revoked if its reservation was
    taken back: ask again.
    """
    admission = Admission(delivery)
    while True:
        delivery.check()
        match await admission.answer():
            case Admitted() as admitted:
                attempt = await admission.admitted(admitted)
                await delivery.runtime.wait_until_sent(attempt)
                return attempt
            case Denied() as denied:
                await admission.denied(denied)
            case Impossible() as impossible:
                raise retry.Failed(admission.never(impossible))
            case None:
                admission.sent_away()


class Admission:
    """One attempt's way to its admission."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.runtime = delivery.runtime
        self.job = delivery.job
        self._attempt: Attempt | None = None
        self._arrived = False

    async def answer(self) -> Answer | None:
        """The admission's answer, after a wait in a waitlist if need be; None if the job must not wait there longer."""
        attempt, waitlists = await self._planned(), self.runtime.waitlists
        waitlist = waitlists.of(attempt)
        if waitlist.free or not waitlists.may_join(waitlist, attempt):
            answer: Answer | None = await self._ask(waitlist)
        else:
            answer = await self._wait(waitlist)
        while isinstance(answer, Denied):
            self._decide(answer)
            if (joined := waitlists.after_denial(attempt, answer)) is None:
                break
            answer = await self._wait(joined)
        return answer

    async def _wait(self, waitlist: Waitlist) -> Answer | None:
        self._note_arrival()
        return await waitlist.wait(partial(self._ask, waitlist), self._must_leave)

    def _must_leave(self) -> bool:
        """Whether the job must not wait in this worker any longer."""
        left = self.delivery.time_left()
        closed = self.runtime.gates.closed_for(self.job.workflow, self.job.paced_as)
        held = self.runtime.pauses.of(self.job) is not None or self.runtime.stops.has_stopped(self.job)
        return bool(closed) or held or worker_is_stopping() or (left or 0.0) < 0

    async def _ask(self, waitlist: Waitlist) -> Answer:
        attempt = await self._planned()
        attempt.start(waitlist.calls)
        answer: Answer | None = None
        try:
            answer = await self.runtime.admit(attempt, for_waitlist=waitlist.full)
        finally:
            if not attempt.is_sent:
                attempt.end_start()
        self._note_arrival()
        if isinstance(answer, Denied) and opens_in(answer) is not None:
            waitlist = self.runtime.waitlists.denying(attempt, answer)
        if not attempt.has_failed:
            self._limit_gate(waitlist)
        return answer

    def _note_arrival(self) -> None:
        """Report once to the gate that the claimed job has asked or waits."""
        self._arrived = self._arrived or self.runtime.gates.arrived(self.job.workflow)

    async def _planned(self) -> Attempt:
        """The attempt, planned again if it is out of date.

        Raises Snooze if a price cannot be looked up at the moment, Failed if no target can take the job, and
        NotConfigured if that is due to this worker's configuration and not to the line.
        """
        known = self._attempt
        if known is not None and not known.stale and known.planned_at >= self.runtime.changed_at:
            return known
        try:
            self._attempt = await planning.plan(self.delivery)
        except LookUpFailed as failed:
            self._note_arrival()
            self.runtime.gates.close(self.job.workflow, self.job.paced_as, AFTER_FAILURE)
            raise self.delivery.snooze(AFTER_FAILURE, str(failed)) from None
        except NoRoute as no_route:
            if self.job.batch and not self.job.call and not self.delivery.kept and isinstance(no_route, NotConfigured):
                raise  # the line was checked when it was submitted
            raise retry.Failed(retry.Fail(no_route.code, str(no_route))) from None
        return self._attempt

    async def admitted(self, answer: Admitted) -> Attempt:
        """The admitted attempt. Raises Failed if a job that has failed could only be sent after its deadline."""
        attempt, left = self._current(), self.delivery.time_left()
        if self.delivery.failure is not None and left is not None and answer.wait >= left:
            await self.runtime.release(attempt)
            _, error = self.delivery.failure
            words = f"{error.message} (would have to wait {answer.wait:.0f} s, past its deadline)"
            raise retry.Failed(retry.Fail("deadline_exceeded", words, error.status))
        if attempt.wait > AHEAD and not attempt.has_failed:
            self._limit_gate(self.runtime.waitlists.of_route(attempt))
        self.runtime.gates.admitted(self.job.workflow, self.job.paced_as)
        return attempt

    def never(self, answer: Impossible) -> retry.Fail:
        """How the job ends: no budget will ever pay for it, or it is too large."""
        no_fallback = self._current().no_fallback
        if answer.dimension == "usd" and no_fallback is not None:
            return retry.Fail(no_fallback.code, str(no_fallback))
        return retry.never(answer)

    async def denied(self, denied: Denied) -> None:
        """Sleep if the wait is short; otherwise raise Snooze."""
        seconds = self._decide(denied).seconds
        if seconds > (BACKOFF_IN_WORKER if denied.reason == "not_before" else SHORT_PAUSE):
            raise self._snooze(denied, seconds)
        await asyncio.sleep(seconds)

    def _decide(self, denied: Denied) -> retry.Wait:
        """How long the job waits after a denial. Raises Failed if it ends."""
        error = self.delivery.failure[1] if self.delivery.failure else None
        exhausted, left = self.delivery.workflow.when_exhausted, self.delivery.time_left()
        if self.delivery.kept is not None:
            exhausted = "fail"  # it has an answer, so it waits for no budget
        decision = retry.after_denial(denied, exhausted, left, error)
        if isinstance(decision, retry.Fail):
            raise retry.Failed(decision)
        return decision

    def sent_away(self) -> None:
        """Raise Snooze if the job left its waitlist because the worker stops, or because the gate has closed."""
        if worker_is_stopping():
            raise self.delivery.snooze(0.0, "the worker stops")
        _snooze_if_closed(self.delivery)

    def _current(self) -> Attempt:
        assert self._attempt is not None
        return self._attempt

    def _snooze(self, denied: Denied, seconds: float) -> Snooze:
        """What puts the job back into its queue. Limits or closes the workflow's gate for others of its kind."""
        attempt = self._current()
        if denied.reason == "pause":  # someone may lift it
            seconds = min(seconds, PAUSE_CHECK * (0.75 + 0.5 * random.random()))
        if denied.reason not in OWN_REASONS and not attempt.has_failed and opens_in(denied) is None:
            opens = seconds if denied.opens_in is None else min(seconds, denied.opens_in)
            least, blocked = SHORT_PAUSE if denied.reason == "pause" else LONG, denied.reason == "latch"
            self.runtime.gates.close(self.job.workflow, self.job.paced_as, opens, least, blocked=blocked)
        reason = self.delivery.why(denied)
        if denied.reason == "budget" and attempt.no_fallback is not None:
            reason = f"its own model cannot be paid yet, and the cheaper one cannot be asked: {attempt.no_fallback}"
        # The gate paces jobs that wait for a bucket: once it lets one through, that job may ask at once.
        exact = denied.reason not in WAITLIST_REASONS
        return self.delivery.snooze(self.delivery.state.waits(seconds, exact=exact), reason)

    def _limit_gate(self, waitlist: Waitlist) -> None:
        """Let the gate claim no more jobs than the waitlist wants."""
        credit = partial(self.runtime.waitlists.credit, waitlist)
        self.runtime.gates.limit(self.job.workflow, self.job.paced_as, credit)


def _snooze_if_closed(delivery: Delivery) -> None:
    """Raise Snooze if the workflow's gate is closed for the job's model."""
    job = delivery.job
    if seconds := delivery.runtime.gates.closed_for(job.workflow, job.paced_as):
        raise delivery.snooze(seconds, f"jobs for {job.paced_as} were denied just now")


async def other_configuration(delivery: Delivery, missing: NotConfigured) -> NoReturn:
    """Snooze a batch's line that this worker's overnight.toml doesn't cover, though its submit has accepted it.

    Another worker may have the file that it was submitted with, so this one leaves the workflow's queue alone for now.
    """
    job, runtime = delivery.job, delivery.runtime
    runtime.gates.arrived(job.workflow)
    runtime.gates.close(job.workflow, job.paced_as, OTHER_CONFIGURATION)
    words = f"a worker with its configuration: on {node()}, {missing} (restart workers whose overnight.toml is older)"
    await runtime.report_blocker(job, words)
    raise delivery.snooze(OTHER_CONFIGURATION, words) from None
