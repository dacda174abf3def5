"""How reservations and jobs end: released, settled, or finished with a result."""

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any, Final

from limits.admission import release, settle
from limits.client.compact_json import loads
from limits.encoding import settlement_json
from limits.feedback import AccountRefusal, refused
from limits.reservation import Settlement
from tasks.answers.checks import Checked
from tasks.jobs import hooks, outcomes, retry, store
from tasks.jobs.attempt import Attempt
from tasks.jobs.connections import Connections
from tasks.jobs.job import Job
from tasks.jobs.kept import Kept
from tasks.jobs.state import JobState
from tasks.jobs.store import Outcome
from workers.config.settings import Settings
from workers.providers.answer import Answer
from workers.providers.errors import AccountBlocked, ProviderError

log = logging.getLogger(__name__)

#: Seconds between two reports of what holds up a batch.
REPORT_EVERY: Final = 5.0

#: Seconds to keep trying to record the end of a call: its answer is paid for, and exists nowhere else.
FINISH: Final = 3600.0


class Settling(Connections):
    """The steps that end a reservation or a job."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._reported: dict[str, float] = {}  # by batch: when its blocker may be reported again, in monotonic seconds

    async def release(self, attempt: Attempt) -> None:
        """Give back a reservation that was not used. If the server is unreachable, it ends with its lease."""
        self.leases.reservations.discard(attempt.ask.id)
        attempt.end_start()
        try:
            released = self.server.run(release(self.keys, attempt.ask.id, self.owner))
            await asyncio.gather(released, return_exceptions=True)
        finally:
            self.settled(attempt.ask.id)

    async def settle(self, attempt: Attempt, error: ProviderError) -> None:
        """Settle a call that brought no answer, with what the failure says about limits and circuit.

        What the call may have cost is added to the job's.
        """
        closing = outcomes.of_failure(attempt, error)
        await self._settle(attempt, closing)
        attempt.state.cost += closing.amount

    async def _settle(self, attempt: Attempt, closing: Settlement) -> None:
        """Settle a call that has not ended its job.

        A batch counts the call in the same step. A call of an agent is counted when its journal entry is written.
        """
        job, reservation = attempt.job, attempt.ask.id
        self.leases.reservations.discard(reservation)
        try:
            if job.batch and not job.call:
                settlement = settlement_json(reservation, self.owner, closing)
                await self.server.run(store.settle_line(self.keys, job, settlement, closing), FINISH)
                attempt.state.counted(closing)
            else:
                await self.server.run(settle(self.keys, reservation, self.owner, closing), FINISH)
        finally:
            self.settled(attempt.ask.id)

    def settled(self, reservation: str) -> None:
        """Note that the server knows the end of a call, or that this worker has given up reporting it."""
        self.waitlists.ended(reservation)

    async def refused(self, attempt: Attempt, error: AccountBlocked) -> None:
        """Report to all workers that an account refused a call. Sets `error.blocked` if the account is blocked now."""
        route, words = attempt.route, f"{error.code}: {error.advice}"
        refusal = AccountRefusal(
            route.account,
            words,
            scope=route.scope,
            certain=error.certain,
            job=attempt.job.task_id,
            reservation=attempt.ask.id,
            key=error.fingerprint,
        )
        found = await self.server.run(refused(self.keys, refusal), FINISH)
        error.blocked = found.blocked
        if found.new:
            name = route.account if error.certain else route.scope
            log.error("account %s is blocked, and is tried now and then: %s", name, words)

    def answered(self, attempt: Attempt, answer: Answer, checked: Checked | None) -> Outcome:
        """The outcome of a job with an answer. `checked`: the result of its check, None if it was not checked."""
        self.leases.reservations.discard(attempt.ask.id)
        if answer.usage is not None:
            self.ratios.observe(attempt.route.target, attempt.estimate, answer.usage)
        return outcomes.answered(attempt, answer, self.owner, checked)

    def failed(self, attempt: Attempt, error: ProviderError, fail: retry.Fail) -> Outcome:
        """The outcome of a job that has failed for good."""
        self.leases.reservations.discard(attempt.ask.id)
        return outcomes.failed(attempt, error, fail, self.owner)

    async def keep_answer(self, job: Job, outcome: Outcome, kept: Kept, state: JobState) -> bool:
        """Settle an answered call, and keep its answer until the job has another one.

        Returns False if the job has ended, or another delivery has taken it over.
        """
        calls, throttles = state.calls - state.counted_calls, state.throttles - state.counted_throttles
        counted = replace(outcome, counted=state.counted_cost)
        state.restore({**kept.state, "counted_calls": state.calls, "counted_throttles": state.throttles})
        kept.state = state.counts()
        call = store.keep_answer(self.keys, job, state.owner, kept.encode(), counted, calls=calls, throttles=throttles)
        try:
            return await self.server.run(call, FINISH)
        finally:
            self.settled(outcome.reservation)

    async def finish(self, job: Job, outcome: Outcome, state: JobState) -> dict[str, Any] | None:
        """Record how the job ended. Returns its result line; None if its batch writes the line to a file."""
        calls, throttles = state.calls - state.counted_calls, state.throttles - state.counted_throttles
        if state.counted_cost:
            outcome = replace(outcome, counted=outcome.counted + state.counted_cost)
        try:
            await self.server.run(store.finish(self.keys, job, outcome, calls=calls, throttles=throttles), FINISH)
        finally:
            self.settled(outcome.reservation)
        hooks.ended(outcome)
        if job.batch is not None:
            return None
        line: dict[str, Any] = loads(outcome.line)
        return line

    async def report_blocker(self, job: Job, words: str) -> None:
        """Let `overnight status` show what holds up the job's batch, at most once in `REPORT_EVERY` seconds."""
        now = time.monotonic()
        if job.batch and now >= self._reported.get(job.batch, 0.0):
            self._reported = {batch: until for batch, until in self._reported.items() if until > now}
            self._reported[job.batch] = now + REPORT_EVERY
            await self.server.run(store.report_blocker(self.keys, job.batch, words))
