"""What follows from a failed attempt or a denial: pure decisions.

- Waiting for capacity (a 429, an open circuit, a budget, a quota) is a *snooze* and spends no attempt.
- A failure spends an attempt. If another target is left, the next attempt goes there at once. Otherwise, or if that one
  takes no call for now, the backoff is 1 s, 2 s, 4 s … up to 5 minutes, each spread by ±50 % so that the jobs of one
  outage don't come back together. A Retry-After is a lower bound for all of these.
- A job that would have to wait past its deadline fails now, and reports why it had to wait. After a 429 or a block it
  fails only once the admission knows of no other route that opens before the deadline.

If no budget can pay for a job, its workflow decides: the job waits for the budget's next window, asks for a cheaper
model at once, or fails. A cheaper model that can never take the job doesn't fail it while its own model can still be
paid for. Another target's denial doesn't fail it either while the target that failed may be asked again after its
backoff. A wait for capacity or money that would end after the deadline ends at the deadline.
"""

import math
import random
from dataclasses import dataclass, replace
from typing import Final

from limits.reservation import Denied, Impossible
from tasks.jobs import reasons
from workers.figures import dollars
from workers.models.routing import NoRoute
from workers.providers import errors

#: Seconds of the first backoff; it doubles with each attempt.
BACKOFF: Final = 1.0

#: Seconds of the longest backoff: a provider that was down for an hour is tried again soon after it is back.
MAX_BACKOFF: Final = 300.0

#: Seconds to wait after a job's first 429 without a Retry-After; it doubles with each.
THROTTLE: Final = 2.0

#: Seconds of the longest such wait: limits per minute have reset by then.
MAX_THROTTLE: Final = 60.0

#: How many 429s about the size of its own request a job may get before it fails.
MAX_ALONE: Final = 6

#: Seconds until a job checks again whether its account is still blocked.
BLOCKED: Final = 60.0

#: Seconds until a job checks again whether someone has raised a spent budget.
BUDGET_CHECK: Final = 300.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `seconds`; the attempt is spent. `exclude`: not at the target that just failed.

    `backoff`: seconds until that target may be asked again, if no other takes the job sooner.
    """

    seconds: float
    exclude: bool = False
    backoff: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """A snooze: come back after `seconds`; no attempt is spent. `other_routes`: the admission may know another route.

    `last_failure`: how the job ends if no other route opens before its deadline; None if `seconds` end before it.
    """

    seconds: float
    reason: str
    other_routes: bool = False
    last_failure: "Fail | None" = None


@dataclass(frozen=True, slots=True)
class Fail:
    """The job has failed for good. `status`: the provider's HTTP status, if it answered."""

    code: str
    message: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class FallBack:
    """No budget can pay for the job's own model: ask for `model` at once. Its own may be asked in `seconds`."""

    model: str
    seconds: float


Decision = Retry | Wait | Fail


def decide(
    error: errors.ProviderError,
    *,
    attempts: int,
    max_attempts: int,
    throttles: int,
    other_targets: bool,
    other_routes: bool,
    time_left: float | None,
    alone: int = 0,
    spread: float | None = None,
) -> Decision:
    """What follows from this error.

    attempts       failed attempts, this one included if it spends one
    throttles      429s of this job
    alone          429s about the size of this job
    other_targets  a target is left that has not failed in this delivery
    other_routes   a route is left that this 429 or block doesn't close, such as the same target with another key
    time_left      seconds until the deadline; None without one
    spread         0 to 1, in place of a random number
    """
    chance = random.random() if spread is None else spread
    if isinstance(error, errors.Throttled) and error.only_for:
        decision = _own_throttle(error, throttles, alone, other_targets, chance)
    else:
        decision = _by_kind(error, attempts, max_attempts, throttles, other_targets, other_routes, chance)
    if time_left is None or isinstance(decision, Fail) or decision.seconds < time_left:
        return decision
    waits = f"would have to wait {decision.seconds:.0f} s, past its deadline"
    fail = Fail("deadline_exceeded", f"{error.message} ({waits})", error.status)
    if isinstance(decision, Wait) and decision.other_routes:
        return replace(decision, last_failure=fail)
    return fail


def _by_kind(
    error: errors.ProviderError,
    attempts: int,
    max_attempts: int,
    throttles: int,
    other_targets: bool,
    other_routes: bool,
    chance: float,
) -> Decision:
    match error:
        case errors.Refused():
            return Fail(error.code, error.message, error.status)
        case errors.AccountBlocked() if error.blocked:
            return Wait(BLOCKED * (0.5 + chance), f"account blocked: {error.code}", other_routes=other_routes)
        case errors.Throttled():
            wait = _throttle(error, throttles, chance)
            return Wait(wait, "429: rate limit", other_routes=other_routes)
    if attempts >= max_attempts:
        tried = f"{attempts} attempt{'s' if attempts != 1 else ''}"
        return Fail(error.code, f"{error.message} (given up after {tried})", error.status)
    backoff = min(MAX_BACKOFF, BACKOFF * 2 ** min(max(attempts - 1, 0), 20)) * (0.5 + chance)
    backoff = max(backoff, error.retry_after or 0.0)
    return Retry(0.0, exclude=True, backoff=backoff) if other_targets else Retry(backoff)


def _throttle(error: errors.Throttled, throttles: int, chance: float) -> float:
    if error.retry_after is not None:
        return error.retry_after
    doubled: float = THROTTLE * 2 ** min(max(throttles - 1, 0), 10)
    return min(MAX_THROTTLE, doubled) * (0.5 + chance)


def _own_throttle(error: errors.Throttled, throttles: int, alone: int, other_targets: bool, chance: float) -> Decision:
    """What follows from a 429 that concerns only this job: no other job waits for it."""
    if alone >= MAX_ALONE:
        return Fail(
            error.code, f"{error.message} (shorter requests are answered; given up after {alone})", error.status
        )
    wait = _throttle(error, throttles, chance)
    return Retry(0.0, exclude=True, backoff=wait) if other_targets else Retry(wait)


def not_admitted(
    answer: Denied | Impossible,
    *,
    when_exhausted: str,
    cheaper: str | None,
    time_left: float | None,
    own_model_in: float = math.inf,
    last_failure: Fail | None = None,
    excluded_for: float | None = None,
) -> Wait | FallBack | Fail:
    """What follows from an admission's denial. It spends no attempt.

    when_exhausted  what the workflow does if the budget is spent
    cheaper         the model that this one falls back to, if any
    time_left       seconds until the deadline; None without one
    own_model_in    seconds until the job's own model may be asked, if this is a cheaper one
    last_failure    how the job ends if no route opens before its deadline, if it has failed already
    excluded_for    seconds until the excluded targets may be asked; None if none were excluded
    """
    decision = _of_all(answer, when_exhausted, cheaper, time_left, own_model_in, last_failure)
    if excluded_for is None or isinstance(decision, Wait) or (time_left is not None and excluded_for >= time_left):
        return decision
    why = reasons.denial(answer) if isinstance(answer, Denied) else f"it {_too_large(answer).message}"
    return Wait(excluded_for, f"the target that failed is asked again, since no other takes the job: {why}")


def _of_all(
    answer: Denied | Impossible,
    when_exhausted: str,
    cheaper: str | None,
    time_left: float | None,
    own_model_in: float,
    last_failure: Fail | None,
) -> Wait | FallBack | Fail:
    """What follows if no target of the model was excluded."""
    if isinstance(answer, Impossible):
        if answer.dimension == "usd" and cheaper is not None:
            return FallBack(cheaper, own_model_in)
        return never(answer, time_left=time_left, own_model_in=own_model_in, last_failure=last_failure)
    seconds = min(own_model_in, BUDGET_CHECK if answer.retry_in is None else answer.retry_in)
    opens = seconds if answer.opens_in is None else min(seconds, answer.opens_in)
    if answer.reason == "budget":
        seconds = min(seconds, BUDGET_CHECK)
        if cheaper is not None:
            return FallBack(cheaper, seconds)
        if when_exhausted == "fail":
            return Fail("budget_exceeded", f"the budget of {answer.subject} is spent")
    if last_failure is not None and time_left is not None and opens >= time_left:
        words = f"{last_failure.message}; no other route opens before it: {reasons.denial(answer)}"
        return replace(last_failure, message=words)
    return Wait(_by_deadline(seconds, time_left), reasons.denial(answer))


def never(
    answer: Impossible | NoRoute, *, time_left: float | None, own_model_in: float, last_failure: Fail | None
) -> Wait | Fail:
    """What follows if the requested model can never take the job. The arguments are those of `not_admitted`."""
    if isinstance(answer, NoRoute):
        fail, words = Fail(answer.code, str(answer)), f"cannot be asked: {answer}"
    else:
        fail = _too_large(answer)
        words = fail.message
    if own_model_in == math.inf:
        return fail
    if last_failure is not None and time_left is not None and own_model_in >= time_left:
        return last_failure
    return Wait(_by_deadline(own_model_in, time_left), f"its own model cannot be paid yet, and the cheaper one {words}")


def _too_large(answer: Impossible) -> Fail:
    """How a job fails that will never fit."""
    if answer.dimension != "usd":
        words = f"needs {answer.requested:,} {answer.dimension}, and {answer.subject} allows {answer.limit:,}"
        return Fail("request_too_large", words)
    asked, whole = dollars(answer.requested), dollars(answer.limit)
    return Fail("budget_too_small", f"can cost up to {asked}, and the whole budget of {answer.subject} is {whole}")


def _by_deadline(seconds: float, time_left: float | None) -> float:
    """The wait, cut to a second past the deadline, so that the job comes back to find that it has passed."""
    return seconds if time_left is None else min(seconds, max(time_left, 0.0) + 1.0)
