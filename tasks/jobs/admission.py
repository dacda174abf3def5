"""Getting one attempt admitted: ask, wait and ask again, until it may be sent or the job ends or is snoozed.

    plan ─► ask ─► admitted
              │
              ├─► the budget is spent: ask for the cheaper model at once
              ├─► a bucket is full: join its waitlist, and ask again when it is this job's turn
              ├─► denied for a short time: sleep, and ask again
              ├─► denied for long: snooze, and close the workflow's gate for jobs of this model
              └─► never possible: the job fails

While a job excludes failed targets, its denials don't touch the workflow's gate: other jobs may still use every target.
"""

import asyncio
import math
import random
import time
from functools import partial
from platform import node
from typing import Final, NoReturn

from limits.reservation import Admitted, Denied, Impossible
from tasks.jobs import retry
from tasks.jobs.attempt import Attempt
from tasks.jobs.failover import Failover
from tasks.jobs.job import Job
from tasks.jobs.priced_routes import AFTER_FAILURE
from tasks.jobs.pricing import LookUpFailed
from tasks.jobs.runtime import Runtime
from tasks.jobs.state import JobState
from tasks.jobs.store import Outcome
from tasks.jobs.waitlist import AHEAD, SHORT_PAUSE, WAITLIST_REASONS, waitlist_of
from workers.models.routing import NoRoute, NotConfigured
from workers.pool.coroutine import worker_is_stopping
from workers.request import Snooze
from workers.transport.gates import LONG

#: Seconds: a backoff up to this long is slept through in the worker; a longer one is a snooze, which frees the slot.
BACKOFF_IN_WORKER: Final = 2.0

#: Seconds: the same for a denial. Shorter, since a denied job may be one of thousands.
DENIAL_IN_WORKER: Final = 1.0

#: Seconds until a job that waits for a pause checks whether someone has lifted it (`overnight limits`).
PAUSE_CHECK: Final = 60.0

#: Denials that concern only the job itself: they say nothing about the next job.
OWN_REASONS: Final = frozenset({"retry_budget", "budget_held", "held"})

#: Seconds until a job comes back that this worker's configuration doesn't cover; as long the worker claims no more.
OTHER_CONFIGURATION: Final = 5.0


class Admission:
    """One attempt's way to its admission.

    `last_failure`: how the job ends if no route opens before its deadline; None if it has not failed yet.
    """

    def __init__(
        self, runtime: Runtime, job: Job, state: JobState, failover: Failover, last_failure: retry.Fail | None = None
    ) -> None:
        self.runtime = runtime
        self.job = job
        self.state = state
        self.failover = failover
        self.last_failure = last_failure
        self.waiter = runtime.waitlists.waiter()
        self.attempt: Attempt | None = None
        self.asked = job  # the job, or the same job of a cheaper model
        self.own_model_in = math.inf  # seconds until the job's own model may be asked; set once a cheaper one is
        self._arrived = False
        self._may_ask = True

    async def granted(self) -> Attempt | Outcome:
        """The admitted attempt, or how the job ends without one. Raises Snooze if the job must wait in its queue."""
        with self.waiter:
            while (found := await self._next()) is None:
                pass
        return found

    async def _next(self) -> Attempt | Outcome | None:
        self.runtime.stops.check(self.job)
        if self.job.deadline and time.time() > self.job.deadline:
            late = retry.Fail("batch_expired", "the batch's deadline passed before this job ran")
            return self._ended(self.last_failure or late)
        if not self._may_ask:
            await self._wait_in_waitlist()
            return None
        if self.attempt is None or self.attempt.stale:
            try:
                self.attempt = await self._plan()
            except NoRoute as no_route:
                return await self._nowhere_to_go(no_route)
        if not self.waiter.waitlist and self.waiter.queues_behind(self.attempt):
            self._note_arrival()
            await self._wait_in_waitlist()
            return None
        answer = await self.runtime.admit(self.attempt, for_waitlist=bool(self.waiter.waitlist))
        self._note_arrival()
        if isinstance(answer, Admitted):
            return await self._admitted(self.attempt, answer)
        return await self._not_admitted(self.attempt, answer)

    def _note_arrival(self) -> None:
        """Report once to the gate that the claimed job has asked or waits."""
        self._arrived = self._arrived or self.runtime.gates.arrived(self.job.workflow)

    async def _plan(self) -> Attempt:
        """Plan the attempt. Raises Snooze if a price cannot be looked up at the moment."""
        try:
            return await self.runtime.prepare(self.asked, self.state, self.failover.excluded)
        except LookUpFailed as failed:
            if self.asked is self.job:
                self.runtime.gates.arrived(self.job.workflow)
                self.runtime.gates.close(self.job.workflow, self.job.paced_as, AFTER_FAILURE)
            raise Snooze(AFTER_FAILURE, str(failed), self.state.to_header()) from None

    async def _admitted(self, attempt: Attempt, answer: Admitted) -> Attempt | Outcome:
        if self.last_failure is not None and time.time() + answer.wait >= self.job.deadline:
            await self.runtime.release(attempt)
            return self._ended(self.last_failure)
        ahead = attempt.wait > AHEAD
        if ahead and not self.failover.excluded:
            self._limit_gate(self.asked, waitlist_of(attempt, attempt.route.buckets[0][0]))
        waited = ahead or bool(self.waiter.waitlist)
        self.runtime.gates.admitted(self.asked.workflow, self.asked.paced_as, waited=waited)
        return attempt

    async def _not_admitted(self, attempt: Attempt, answer: Denied | Impossible) -> Outcome | None:
        decision = self.runtime.not_admitted(
            self.asked,
            answer,
            own_model_in=self.own_model_in,
            last_failure=self.last_failure,
            excluded_for=self.failover.left() if attempt.excluding else None,
        )
        match decision:
            case retry.FallBack():
                self.asked = self.job.of_model(decision.model)
                self.own_model_in, self.attempt = decision.seconds, None
            case retry.Fail():
                return self._ended(decision)
            case retry.Wait():
                if isinstance(answer, Denied) and self.waiter.join(attempt, answer):
                    await self._wait_in_waitlist()
                else:
                    await self._wait(decision, answer, waitlist_of(attempt, answer.subject))
                if self.asked is not self.job:
                    self._ask_for_own_model()
        return None

    def _ask_for_own_model(self) -> None:
        self.asked, self.own_model_in, self.attempt, self._may_ask = self.job, math.inf, None, True

    async def _nowhere_to_go(self, no_route: NoRoute) -> Outcome | None:
        """How the job ends if no target can ever take it; None after a wait for its own model.

        Raises NotConfigured if the reason is this worker's configuration and not the line.
        """
        if (
            self.own_model_in == math.inf
            and self.job.batch
            and not self.job.call
            and isinstance(no_route, NotConfigured)
        ):
            raise no_route  # the line was checked when it was submitted
        left = self.job.deadline - time.time() if self.job.deadline else None
        decision = retry.never(no_route, time_left=left, own_model_in=self.own_model_in, last_failure=self.last_failure)
        if isinstance(decision, retry.Fail):
            return self._ended(decision)
        await self._wait(decision, no_route, "")
        self._ask_for_own_model()
        return None

    async def _wait_in_waitlist(self) -> None:
        """Wait for a turn to ask, or for a while. Raises Snooze if the worker stops or the gate has closed."""
        self.runtime.slow_start.end(self.state.owner)
        if not self.failover.excluded:
            self._limit_gate(self.job, self.waiter.waitlist)
        self._may_ask = await self.waiter.turn()
        if worker_is_stopping():
            raise Snooze(0.0, "the worker stops", self.state.to_header())
        snooze_if_closed(self.runtime, self.job, self.state)

    async def _wait(self, wait: retry.Wait, answer: Denied | Impossible | NoRoute, waitlist: str) -> None:
        """Sleep here if the wait is short. Otherwise raise Snooze, and limit or close the workflow's gate.

        If the excluded targets may be asked sooner, wait for them instead, and plan again.
        """
        self.runtime.slow_start.end(self.state.owner)
        if self.failover.excluded and wait.seconds >= self.failover.left():
            await back_off(self.state, self.failover.left(), wait.reason)
            self.failover.end()
            self.attempt = None
            return
        if wait.seconds <= DENIAL_IN_WORKER:
            await asyncio.sleep(wait.seconds)
            return
        seconds, exact = wait.seconds, True
        if isinstance(answer, Denied):
            if answer.reason == "pause":  # someone may lift it
                seconds = min(seconds, PAUSE_CHECK * (0.75 + 0.5 * random.random()))
            if answer.reason not in OWN_REASONS and not self.failover.excluded:
                self._hold_back_others(answer, seconds, waitlist)
            # The gate paces jobs that wait for a bucket: once it lets one through, that job may ask at once.
            exact = answer.reason not in WAITLIST_REASONS
        raise Snooze(self.state.waits(seconds, exact=exact), wait.reason, self.state.to_header())

    def _hold_back_others(self, answer: Denied, seconds: float, waitlist: str) -> None:
        """Let the gate claim fewer jobs of this model, or none until the denial ends."""
        opens = seconds if answer.opens_in is None else min(seconds, answer.opens_in)
        least = SHORT_PAUSE if answer.reason == "pause" else LONG
        if answer.reason == "concurrency" or (answer.reason in WAITLIST_REASONS and opens <= least):
            self._limit_gate(self.job, waitlist)
        else:
            blocked = answer.reason == "latch"
            self.runtime.gates.close(self.job.workflow, self.job.paced_as, opens, least, blocked=blocked)

    def _limit_gate(self, job: Job, waitlist: str) -> None:
        """Let the gate claim no more jobs than the waitlist wants."""
        self.runtime.gates.limit(job.workflow, job.paced_as, partial(self.runtime.waitlists.wanted, waitlist))

    def _ended(self, fail: retry.Fail) -> Outcome:
        return ended(self.job, self.state, fail.code, fail.message)


def ended(job: Job, state: JobState, code: str, message: str) -> Outcome:
    """The outcome of a job without an answer, with what it has cost so far."""
    return Outcome.error(job, code, message, cost=state.cost, attempts=state.attempts)


def snooze_if_closed(runtime: Runtime, job: Job, state: JobState) -> None:
    """Raise Snooze if the workflow's gate is closed for the job's model."""
    if seconds := runtime.gates.closed_for(job.workflow, job.paced_as):
        raise Snooze(seconds, f"jobs for {job.paced_as} were denied just now", state.to_header())


async def back_off(state: JobState, seconds: float, reason: str) -> None:
    """Wait between two attempts: here if the time is short, otherwise in the queue, by raising Snooze."""
    if seconds > BACKOFF_IN_WORKER:
        raise Snooze(seconds, reason, state.to_header()) from None
    await asyncio.sleep(seconds)


async def other_configuration(runtime: Runtime, job: Job, state: JobState, missing: NotConfigured) -> NoReturn:
    """Snooze a batch's line that this worker's overnight.toml doesn't cover, though its submit has accepted it.

    Another worker may have the file that it was submitted with, so this one leaves the workflow's queue alone for now.
    """
    runtime.gates.arrived(job.workflow)
    runtime.gates.close(job.workflow, job.paced_as, OTHER_CONFIGURATION)
    words = f"a worker with its configuration: on {node()}, {missing} (restart workers whose overnight.toml is older)"
    await runtime.report_blocker(job, words)
    raise Snooze(OTHER_CONFIGURATION, words, state.to_header()) from None
