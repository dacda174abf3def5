"""What becomes of a job whose attempt failed: a pure decision, with its schedule told in prose.

Waiting for capacity (a 429, a closed circuit, a budget, a quota) is a *snooze* and spends no attempt. A failure
spends one: with another target left, the next attempt goes there at once; otherwise after 1 s, 2 s, 4 s … up
to 5 minutes, each spread by ±50 % so that the jobs of one outage do not come back as one wave. An announced
Retry-After is a lower bound to all of these. What would come back after the deadline fails now, with the reason
that it had to wait.
"""

import random
from dataclasses import dataclass

from workers.providers import errors

#: Seconds: the first and the longest wait between two attempts.
BACKOFF, MAX_BACKOFF = 1.0, 300.0

#: A 429 that announces nothing: seconds for the first one, and the longest.
THROTTLE, MAX_THROTTLE = 2.0, 60.0

#: How long a job waits before it looks again whether a person has mended its account, in seconds.
BLOCKED = 60.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `seconds`; the attempt is spent. `elsewhere`: not at the target that just failed."""

    seconds: float
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """A snooze: come back after `seconds`; no attempt is spent. `elsewhere`: another target may go at once."""

    seconds: float
    reason: str
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Fail:
    """The job has failed for good."""

    code: str
    message: str
    status: int | None = None


Decision = Retry | Wait | Fail


def decide(
    error: errors.ProviderError,
    *,
    attempts: int,
    max_attempts: int,
    throttles: int,
    others: bool,
    time_left: float | None,
    spread: float | None = None,
) -> Decision:
    """What follows from this error.

    `attempts` counts the failed attempts, this one included where it was one; `throttles` the 429s of this job;
    `others` says whether a target is left that has not failed in this delivery; `time_left` the seconds until the
    deadline, None without one; `spread` (0 to 1) replaces the random number.
    """
    chance = random.random() if spread is None else spread
    decision = _by_kind(error, attempts, max_attempts, throttles, others, chance)
    if time_left is not None and not isinstance(decision, Fail) and decision.seconds >= time_left:
        waits = f"would have to wait {decision.seconds:.0f} s, past its deadline"
        return Fail("deadline_exceeded", f"{error.message} ({waits})", error.status)
    return decision


def _by_kind(
    error: errors.ProviderError, attempts: int, max_attempts: int, throttles: int, others: bool, chance: float
) -> Decision:
    match error:
        case errors.Refused():
            return Fail(error.code, error.message, error.status)
        case errors.AccountBlocked():
            return Wait(BLOCKED * (0.5 + chance), f"account blocked: {error.code}", elsewhere=others)
        case errors.Throttled():
            wait = error.retry_after
            if wait is None:
                wait = min(MAX_THROTTLE, THROTTLE * 2 ** min(max(throttles - 1, 0), 10)) * (0.5 + chance)
            return Wait(wait, "429: rate limit", elsewhere=others)
    if attempts >= max_attempts:
        tried = f"{attempts} attempt{'s' if attempts != 1 else ''}"
        return Fail(error.code, f"{error.message} (given up after {tried})", error.status)
    if others:
        return Retry(0.0, elsewhere=True)
    backoff = min(MAX_BACKOFF, BACKOFF * 2 ** min(max(attempts - 1, 0), 20)) * (0.5 + chance)
    return Retry(max(backoff, error.retry_after or 0.0))
