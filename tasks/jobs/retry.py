"""What follows from a failed attempt or a denial: pure decisions.

- Waiting for capacity (a 429, an open circuit, a budget, a quota) spends no attempt. The admission knows how long.
- A failure spends an attempt. The job doesn't try that target again before a backoff of 1 s, 2 s, 4 s … up to 5
  minutes, each spread by ±50 % so that the jobs of one outage don't come back together. A Retry-After is a lower bound.
  Another target may take the job at once.
- A job that has failed, and whose routes all open after its deadline, fails now and reports why it would have to wait.
  A job that no provider has refused yet may be lucky: it waits until its deadline.

If no budget can pay for a job, its workflow decides: the job waits for the budget's next window, takes a cheaper model
at once (a fallback candidate of the same ask), or fails.
"""

import random
from dataclasses import dataclass
from typing import Final

from limits.reservation import Denied, Impossible
from tasks.jobs import reasons
from tasks.jobs.state import JobState
from workers.figures import dollars
from workers.providers import errors

#: Seconds of the first backoff; it doubles with each attempt.
BACKOFF: Final = 1.0

#: Seconds of the longest backoff: a provider that was down for an hour is tried again soon after it is back.
MAX_BACKOFF: Final = 300.0

#: How many 429s about the size of its own request a job may get before it fails: two minutes of backoff.
MAX_ALONE: Final = 6

#: Seconds until a job checks again whether someone has raised a spent budget.
BUDGET_CHECK: Final = 300.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Come back after `seconds`; no attempt is spent."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """The job has failed for good. `status`: the provider's HTTP status, if it answered."""

    code: str
    message: str
    status: int | None = None


class Failed(Exception):  # noqa: N818 - names what happened
    """The job ends without another call."""

    def __init__(self, fail: Fail) -> None:
        super().__init__(fail.code)
        self.fail = fail


def is_wait(error: errors.ProviderError) -> bool:
    """Whether the failure closes a route for every job, so that the admission knows when it opens."""
    if isinstance(error, errors.AccountBlocked):
        return error.blocked
    return isinstance(error, errors.Throttled) and not error.only_for


def backoff(error: errors.ProviderError, state: JobState, spread: float | None = None) -> float:
    """Seconds for which the job must not try the failed target again; 0 if the admission knows that.

    `spread`: 0 to 1, in place of a random number.
    """
    if is_wait(error):
        return 0.0
    if error.only_for and error.retry_after is not None:
        return error.retry_after
    doublings = state.throttles if error.only_for else max(state.attempts - 1, 0)
    seconds = min(MAX_BACKOFF, BACKOFF * 2.0 ** min(doublings, 20))
    return max(seconds * (0.5 + (random.random() if spread is None else spread)), error.retry_after or 0.0)


def after_failure(error: errors.ProviderError, state: JobState, max_attempts: int) -> Fail | None:
    """How the job ends after this error; None if it is tried again. `state` counts the error already."""
    if isinstance(error, errors.Refused):
        return Fail(error.code, error.message, error.status)
    if error.only_for:
        if state.alone < MAX_ALONE:
            return None
        words = f"{error.message} (shorter requests are answered; given up after {state.alone})"
        return Fail(error.code, words, error.status)
    if is_wait(error) or state.attempts < state.most_attempts(max_attempts):
        return None
    tried = f"{state.attempts} attempt{'s' if state.attempts != 1 else ''}"
    return Fail(error.code, f"{error.message} (given up after {tried})", error.status)


def after_denial(
    denied: Denied, when_exhausted: str, time_left: float | None, error: errors.ProviderError | None
) -> Wait | Fail:
    """What follows from an admission's denial. It spends no attempt.

    when_exhausted  what the workflow does if the budget is spent
    time_left       seconds until the deadline; None without one
    error           how the job's last attempt failed, if one did in this delivery
    """
    if denied.reason == "budget" and when_exhausted == "fail":
        return Fail("budget_exceeded", f"the budget of {denied.subject} is spent")
    seconds = BUDGET_CHECK if denied.retry_in is None else denied.retry_in
    opens = seconds if denied.opens_in is None else min(seconds, denied.opens_in)
    if denied.reason == "budget":
        seconds = min(seconds, BUDGET_CHECK)
    if time_left is None:
        return Wait(seconds, reasons.denial(denied))
    if error is not None and opens >= time_left:
        waits = f"would have to wait {opens:.0f} s, past its deadline: {reasons.denial(denied)}"
        return Fail("deadline_exceeded", f"{error.message} ({waits})", error.status)
    # A second past the deadline, so that the job comes back to find that it has passed.
    return Wait(min(seconds, max(time_left, 0.0) + 1.0), reasons.denial(denied))


def never(answer: Impossible) -> Fail:
    """How a job fails that asks for more than a limit allows."""
    if answer.dimension != "usd":
        words = f"needs {answer.requested:,} {answer.dimension}, and {answer.subject} allows {answer.limit:,}"
        return Fail("request_too_large", words)
    asked, whole = dollars(answer.requested), dollars(answer.limit)
    return Fail("budget_too_small", f"can cost up to {asked}, and the whole budget of {answer.subject} is {whole}")
