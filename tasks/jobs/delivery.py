"""One delivery of a job: what runs it, what it carries, and what has failed in it.

A call that an agent makes is a delivery, too, with a job and a state of its own.
"""

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from limits.reservation import Denied
from tasks.answers import again
from tasks.jobs import flex, hooks, kept, outcomes, reasons, retry
from tasks.jobs.attempt import Attempt
from tasks.jobs.job import Job
from tasks.jobs.kept import Kept
from tasks.jobs.runtime import Runtime
from tasks.jobs.state import JobState
from tasks.jobs.store import Begun, Outcome
from workers.config.workflow_settings import WorkflowSettings
from workers.providers.ceiling import OTHER
from workers.providers.errors import AccountBlocked, ProviderError, Refused
from workers.request import Snooze

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Delivery:
    """A job in this worker.

    not_before  by target that has failed in this delivery: when the job may try it again, in monotonic seconds
    failure     the last failed attempt and its error
    renamed     the targets at which the other name of the answer's ceiling was used
    kept        the best answer so far, while the job asks for a further one
    prefix      what it shares with other jobs in a provider's prompt cache; '' if nothing, or it isn't used
    """

    runtime: Runtime
    job: Job
    state: JobState
    not_before: dict[str, float] = field(default_factory=dict)
    failure: tuple[Attempt, ProviderError] | None = None
    renamed: set[str] = field(default_factory=set)
    kept: Kept | None = None
    prefix: str = ""

    @property
    def workflow(self) -> WorkflowSettings:
        """The settings of the job's workflow."""
        return self.runtime.settings.workflow(self.job.workflow)

    async def begin(self) -> Begun:
        """Ask whether this delivery may run the job. If an earlier one has kept an answer, this one goes on with it."""
        begun = await self.runtime.begin(self.job, self.state)
        if begun.kept and (found := kept.decode(begun.kept, self.job.round)) is not None:
            self.state.restore(found.state)
            self._go_on(found)
        return begun

    async def keep(self, outcome: Outcome, found: Kept) -> None:
        """Settle an answered call and keep its answer. Raises Snooze if another delivery has taken the job over."""
        if not await self.runtime.keep_answer(self.job, outcome, found, self.state):
            raise self.snooze(self.runtime.lease, "another delivery of this job is running")
        self.failure = None
        self._go_on(found)

    def _go_on(self, found: Kept) -> None:
        self.kept = found
        self.job = found.asked(self.job)

    async def finish(self, outcome: Outcome) -> dict[str, Any] | None:
        """Record how the job ended. Returns its result line; None if its batch writes the line to a file."""
        if self.kept is not None:
            outcome = self.kept.best(outcome)
        return await self.runtime.finish(self.job, outcome, self.state)

    def snooze(self, seconds: float, reason: str) -> Snooze:
        """What to raise to put the job back into its queue for `seconds`."""
        return Snooze(seconds, reason, self.state.to_header())

    def time_left(self) -> float | None:
        """Seconds until the job's deadline; None without one."""
        return self.job.deadline - time.time() if self.job.deadline else None

    def check(self) -> None:
        """Raise Stopped if the job's batch runs no more jobs, Snooze if it is paused, Failed after its deadline."""
        self.runtime.stops.check(self.job)
        self.snooze_if_paused()
        left = self.time_left()
        if left is not None and left < 0:
            raise retry.Failed(retry.Fail("batch_expired", "the batch's deadline passed before this job ran"))

    def snooze_if_paused(self) -> None:
        """Raise Snooze if someone has paused the job's batch or workflow."""
        if paused := self.runtime.pauses.of(self.job):
            words, seconds = paused
            raise self.snooze(seconds, words)

    def why(self, denied: Denied) -> str:
        """Why the job waits, in words for people."""
        if denied.reason not in ("not_before", "circuit") or self.failure is None:
            return reasons.denial(denied)
        _, error = self.failure
        words = f"refused alone: {error}" if error.only_for else f"attempt {self.state.attempts} failed: {error}"
        return words if denied.reason == "not_before" else f"{reasons.denial(denied)}; {words}"

    async def failed(self, attempt: Attempt, error: ProviderError) -> retry.Fail | None:
        """Count a failed attempt, and set when its target may be tried again. Returns how the job ends, if it does."""
        if isinstance(error, AccountBlocked):
            await self.runtime.refused(attempt, error)
        if self._renames_ceiling(attempt, error):
            return None
        if flex.goes_live(self.runtime.flex_refused, attempt.route, self.job, error, self.state):
            return None
        self.state.failed(error)
        self.failure = attempt, error
        if backoff := retry.backoff(error, self.state):
            self.not_before[attempt.route.target] = time.monotonic() + backoff
        return retry.after_failure(error, self.state, self.workflow.max_attempts)

    def goes_on_after(self, error: ProviderError) -> bool:
        """Whether a further answer is asked for otherwise, since its raised ceiling may have been refused."""
        if self.kept is None or not isinstance(error, Refused):
            return False
        step = again.after_refusal(self.kept.again, self.workflow.escalate)
        if step is None:
            return False
        self.kept.again = step
        self._go_on(self.kept)
        return True

    def not_before_in(self, target: str) -> float:
        """Seconds until the job may try a target; 0 if it may now."""
        return max(0.0, self.not_before.get(target, 0.0) - time.monotonic())

    def _renames_ceiling(self, attempt: Attempt, error: ProviderError) -> bool:
        """Whether the target only refused the name of the answer's ceiling. The call is made again with the other."""
        target = attempt.route.target
        if not error.ceiling_field or target in self.renamed or attempt.body.get(OTHER[error.ceiling_field]) is None:
            return False
        self.runtime.ceilings[target] = error.ceiling_field
        self.renamed.add(target)
        return True

    def refused(self) -> dict[str, Any]:
        """The result of a message that claims to be a line of a batch but was not handed out by its feed.

        Nothing is recorded. If another version of Overnight has handed it out, the feed finds the line missing and
        hands it out again.
        """
        log.warning(
            "a message of workflow %s is refused: it is no line of batch %.80s", self.job.workflow, self.job.batch
        )
        words = "this message is no line of the batch that it names: only the batch's own feed hands out its lines"
        outcome = self.ended(retry.Fail("invalid_request", words))
        hooks.ended(outcome)
        line: dict[str, Any] = orjson.loads(outcome.line)
        return line

    def ended(self, fail: retry.Fail) -> Outcome:
        """The outcome of a job that ends without a call in flight, with what it has cost so far."""
        if self.failure is not None and fail.status is not None:
            return outcomes.gave_up(*self.failure, fail)
        return Outcome.error(self.job, fail.code, fail.message, cost=self.state.cost, attempts=self.state.attempts)
