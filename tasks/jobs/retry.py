"""What becomes of a job whose attempt failed or was not admitted: pure decisions, with their schedule told in prose.

Waiting for capacity (a 429, a closed circuit, a budget, a quota) is a *snooze* and spends no attempt. A failure
spends one: with another target left, the next attempt goes there at once; otherwise, or where that one takes no call
meanwhile, after 1 s, 2 s, 4 s … up to 5 minutes, each spread by ±50 % so that the jobs of one outage do not come back
as one wave. An announced Retry-After is a lower bound to all of these. What would come back after the deadline fails
now, with the reason that it had to wait: after a 429 or a block only once the admission, asked for another way, knows
of none that opens before the deadline.

Where no budget can pay for a job, its workflow says what follows: it waits for the budget's next window, it is asked
of a cheaper model at once, or it fails. A cheaper model that can never take the job fails none whose own model will be
payable; nor does another target fail or change one that the target which failed just now may take, once its backoff is
over. A wait for capacity or money that ends after the deadline ends at it.
"""

import math
import random
from dataclasses import dataclass, replace

from limits.reservation import Denied, Impossible
from tasks.jobs import reasons
from workers.figures import dollars
from workers.models.routing import NoRoute
from workers.providers import errors

#: Seconds: the first and the longest wait between two attempts.
BACKOFF, MAX_BACKOFF = 1.0, 300.0

#: A 429 that announces nothing: seconds for the first one, and the longest.
THROTTLE, MAX_THROTTLE = 2.0, 60.0

#: So many 429s that shorter requests do not meet end a job.
MAX_ALONE = 6

#: How long a job waits before it looks again whether its account is still blocked, in seconds.
BLOCKED = 60.0

#: How long a job waits before it looks again whether a person has raised a budget that never turns, in seconds.
BROKE = 300.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `seconds`; the attempt is spent. `elsewhere`: not at the target that just failed.

    `backoff`: for how many seconds that one is left alone where no other takes the job sooner.
    """

    seconds: float
    elsewhere: bool = False
    backoff: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """A snooze: come back after `seconds`; no attempt is spent. `elsewhere`: the admission may know another way.

    `otherwise`: how the job ends where that opens no sooner than its deadline; None where `seconds` end before it.
    """

    seconds: float
    reason: str
    elsewhere: bool = False
    otherwise: "Fail | None" = None


@dataclass(frozen=True, slots=True)
class Fail:
    """The job has failed for good."""

    code: str
    message: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class FallBack:
    """No budget can pay for the job's own model: ask for `model` at once. Its own may go in `seconds`."""

    model: str
    seconds: float


Decision = Retry | Wait | Fail


def decide(
    error: errors.ProviderError,
    *,
    attempts: int,
    max_attempts: int,
    throttles: int,
    others: bool,
    way_around: bool,
    time_left: float | None,
    alone: int = 0,
    spread: float | None = None,
) -> Decision:
    """What follows from this error.

    `attempts` counts the failed attempts, this one included where it was one; `throttles` the 429s of this job;
    `others` says whether a target is left that has not failed in this delivery; `way_around` whether there is a way
    that a 429 or a block does not shut, be it the same target's with another key; `time_left` the seconds until the
    deadline, None without one; `alone` counts the 429s about this job's size; `spread` (0 to 1) replaces the random
    number.
    """
    chance = random.random() if spread is None else spread
    if isinstance(error, errors.Throttled) and error.only_for:
        decision = _by_itself(error, throttles, alone, others, chance)
    else:
        decision = _by_kind(error, attempts, max_attempts, throttles, others, way_around, chance)
    if time_left is None or isinstance(decision, Fail) or decision.seconds < time_left:
        return decision
    waits = f"would have to wait {decision.seconds:.0f} s, past its deadline"
    fail = Fail("deadline_exceeded", f"{error.message} ({waits})", error.status)
    if isinstance(decision, Wait) and decision.elsewhere:
        return replace(decision, otherwise=fail)
    return fail


def _by_kind(
    error: errors.ProviderError,
    attempts: int,
    max_attempts: int,
    throttles: int,
    others: bool,
    way_around: bool,
    chance: float,
) -> Decision:
    match error:
        case errors.Refused():
            return Fail(error.code, error.message, error.status)
        case errors.AccountBlocked() if error.blocked:
            return Wait(BLOCKED * (0.5 + chance), f"account blocked: {error.code}", elsewhere=way_around)
        case errors.Throttled():
            wait = _throttle(error, throttles, chance)
            return Wait(wait, "429: rate limit", elsewhere=way_around)
    if attempts >= max_attempts:
        tried = f"{attempts} attempt{'s' if attempts != 1 else ''}"
        return Fail(error.code, f"{error.message} (given up after {tried})", error.status)
    backoff = min(MAX_BACKOFF, BACKOFF * 2 ** min(max(attempts - 1, 0), 20)) * (0.5 + chance)
    backoff = max(backoff, error.retry_after or 0.0)
    return Retry(0.0, elsewhere=True, backoff=backoff) if others else Retry(backoff)


def _throttle(error: errors.Throttled, throttles: int, chance: float) -> float:
    if error.retry_after is not None:
        return error.retry_after
    doubled: float = THROTTLE * 2 ** min(max(throttles - 1, 0), 10)
    return min(MAX_THROTTLE, doubled) * (0.5 + chance)


def _by_itself(error: errors.Throttled, throttles: int, alone: int, others: bool, chance: float) -> Decision:
    """What follows from a 429 that says nothing about other jobs: none of them waits for it."""
    if alone >= MAX_ALONE:
        return Fail(
            error.code, f"{error.message} (shorter requests are answered; given up after {alone})", error.status
        )
    wait = _throttle(error, throttles, chance)
    return Retry(0.0, elsewhere=True, backoff=wait) if others else Retry(wait)


def not_admitted(
    answer: Denied | Impossible,
    *,
    when_exhausted: str,
    cheaper: str | None,
    time_left: float | None,
    own: float = math.inf,
    otherwise: Fail | None = None,
    around: float | None = None,
) -> Wait | FallBack | Fail:
    """What follows from an admission's denial. Nothing of it spends an attempt.

    `cheaper` is the model that this one falls back to, None where there is none; `time_left` the seconds until the
    deadline, None without one; `own` those until the job's own model may go, where this is a cheaper one; `otherwise`
    how a job ends that was refused already and must not wait until its deadline has passed; `around` the seconds until
    targets may be asked that were left out here since they have failed, None where none were.
    """
    decision = _of_all(answer, when_exhausted, cheaper, time_left, own, otherwise)
    if around is None or isinstance(decision, Wait) or (time_left is not None and around >= time_left):
        return decision
    why = reasons.denial(answer) if isinstance(answer, Denied) else f"it {_too_large(answer).message}"
    return Wait(around, f"the target that failed is asked again, since no other takes the job: {why}")


def _of_all(
    answer: Denied | Impossible,
    when_exhausted: str,
    cheaper: str | None,
    time_left: float | None,
    own: float,
    otherwise: Fail | None,
) -> Wait | FallBack | Fail:
    """What follows where all targets of the model were asked."""
    if isinstance(answer, Impossible):
        if answer.dimension == "usd" and cheaper is not None:
            return FallBack(cheaper, own)
        return never(answer, time_left=time_left, own=own, otherwise=otherwise)
    seconds = min(own, BROKE if answer.retry_in is None else answer.retry_in)
    if answer.reason == "budget":
        if cheaper is not None:
            return FallBack(cheaper, seconds)
        if when_exhausted == "fail":
            return Fail("budget_exceeded", f"the budget of {answer.subject} is spent")
    opens = seconds if answer.opens_in is None else min(seconds, answer.opens_in)
    if otherwise is not None and time_left is not None and opens >= time_left:
        words = f"{otherwise.message}; no other way opens before it: {reasons.denial(answer)}"
        return replace(otherwise, message=words)
    return Wait(_by_deadline(seconds, time_left), reasons.denial(answer))


def never(answer: Impossible | NoRoute, *, time_left: float | None, own: float, otherwise: Fail | None) -> Wait | Fail:
    """What follows where the model that is asked for can never take the job; all else as in `not_admitted`."""
    if isinstance(answer, NoRoute):
        fail, words = Fail(answer.code, str(answer)), f"cannot be asked: {answer}"
    else:
        fail = _too_large(answer)
        words = fail.message
    if own == math.inf:
        return fail
    if otherwise is not None and time_left is not None and own >= time_left:
        return otherwise
    return Wait(_by_deadline(own, time_left), f"its own model cannot be paid yet, and the cheaper one {words}")


def _too_large(answer: Impossible) -> Fail:
    """How a job ends that no waiting helps."""
    if answer.dimension != "usd":
        words = f"needs {answer.requested:,} {answer.dimension}, and {answer.subject} allows {answer.limit:,}"
        return Fail("request_too_large", words)
    asked, whole = dollars(answer.requested), dollars(answer.limit)
    return Fail("budget_too_small", f"can cost up to {asked}, and the whole budget of {answer.subject} is {whole}")


def _by_deadline(seconds: float, time_left: float | None) -> float:
    """The wait, at most until a little past the deadline, so that the job finds that it has passed."""
    return seconds if time_left is None else min(seconds, max(time_left, 0.0) + 1.0)
