"""What follows from a failure or a denial."""

from dataclasses import replace

import pytest

from limits.reservation import Denied, Impossible
from tasks.jobs.retry import (
    BACKOFF,
    BUDGET_CHECK,
    MAX_ALONE,
    MAX_BACKOFF,
    Fail,
    Wait,
    after_denial,
    after_failure,
    backoff,
    never,
)
from tasks.jobs.state import JobState
from workers.providers import errors


def seconds(error: errors.ProviderError, *, attempts: int = 1, throttles: int = 1, spread: float = 0.5) -> float:
    return backoff(error, JobState(attempts=attempts, throttles=throttles), spread)


def ends(error: errors.ProviderError, *, attempts: int = 1, alone: int = 0, broken: int = 0) -> Fail | None:
    return after_failure(error, JobState(attempts=attempts, alone=alone, broken=broken), 5)


@pytest.mark.parametrize("error", [errors.Throttled(retry_after=17.5), errors.Throttled(), errors.AccountBlocked()])
def test_a_429_or_a_block_spends_no_attempt_and_the_admission_knows_its_wait(error: errors.ProviderError) -> None:
    assert seconds(error) == 0.0
    assert ends(error, attempts=4) is None
    assert ends(error, attempts=9) is None


@pytest.mark.parametrize(("attempts", "expected"), [(1, BACKOFF), (2, 2.0), (3, 4.0), (4, 8.0)])
def test_the_backoff_doubles(attempts: int, expected: float) -> None:
    assert seconds(errors.CallFailed(), attempts=attempts) == expected


def test_the_backoff_has_a_maximum_and_a_spread() -> None:
    assert seconds(errors.CallFailed(), attempts=40) == MAX_BACKOFF
    assert seconds(errors.CallFailed(), spread=0.0) == BACKOFF / 2
    assert seconds(errors.CallFailed(), spread=1.0) == BACKOFF * 1.5
    assert len({backoff(errors.CallFailed(), JobState(attempts=1)) for _ in range(5)}) > 1


def test_a_retry_after_is_a_lower_bound() -> None:
    assert seconds(errors.Unavailable(retry_after=30.0)) == 30.0


def test_the_last_attempt_fails_the_job() -> None:
    failed = errors.CallFailed("boom", status=500, code="server_error")
    assert ends(failed, attempts=4) is None
    assert ends(failed, attempts=5) == Fail("server_error", "boom (given up after 5 attempts)", 500)
    assert ends(failed, attempts=1, broken=2) == Fail("server_error", "boom (given up after 1 attempt)", 500)


def test_a_refused_request_fails_at_once() -> None:
    refused = errors.Refused("no such field", status=400, code="invalid_request_error")
    assert ends(refused) == Fail("invalid_request_error", "no such field", 400)
    assert isinstance(ends(errors.TooLarge("too large", status=429, code="too_large")), Fail)


def test_429s_about_a_jobs_size_end_it_after_six() -> None:
    error = errors.Throttled("too long", code="rate_limit_error", status=429, only_for="size")
    waits = [seconds(error, throttles=count) for count in range(1, MAX_ALONE)]
    assert waits == [BACKOFF * 2**count for count in range(1, MAX_ALONE)]
    assert sum(waits) >= 60, "limits per minute have reset by then"
    assert ends(error, attempts=9, alone=MAX_ALONE - 1) is None
    words = f"too long (shorter requests are answered; given up after {MAX_ALONE})"
    assert ends(error, alone=MAX_ALONE) == Fail("rate_limit_error", words, 429)


def test_a_job_waits_for_a_tier_without_capacity() -> None:
    error = errors.Throttled("Resource Unavailable", only_for="tier", retry_after=9.0)
    assert seconds(error, throttles=50) == 9.0
    assert ends(error, attempts=9) is None


def test_a_refusal_that_blocks_no_account_spends_an_attempt() -> None:
    error = errors.AccountBlocked("no", code="permission_error")
    error.blocked = False
    assert seconds(error) == BACKOFF
    assert ends(error) is None
    assert ends(error, attempts=5) == Fail("permission_error", "no (given up after 5 attempts)", None)


SPENT = Denied("budget", "workflow/nightly", 3_600.0)
PAUSE = Denied("pause", "acme/1/small", 30.0, 30.0)
PAUSED = "acme/small (key 2) has answered 429 and is paused"
REFUSED = errors.Throttled("slow down", status=429)


def denied(
    answer: Denied, when: str = "wait", left: float | None = None, error: errors.ProviderError | None = None
) -> Wait | Fail:
    return after_denial(answer, when, left, error)


def test_a_spent_budget_waits_or_fails() -> None:
    assert denied(SPENT) == Wait(BUDGET_CHECK, "the budget of nightly is spent"), "a person may raise it"
    assert denied(replace(SPENT, retry_in=60.0)) == Wait(60.0, "the budget of nightly is spent")
    assert denied(SPENT, "fail") == Fail("budget_exceeded", "the budget of workflow/nightly is spent")
    assert denied(SPENT, "fallback") == Wait(BUDGET_CHECK, "the budget of nightly is spent"), "the fallback waits"
    assert denied(Denied("budget", "all", None)) == Wait(BUDGET_CHECK, "the budget over everything is spent"), (
        "a person may raise it"
    )


def test_held_money_may_come_back() -> None:
    held = Denied("budget_held", "all", 2.0)
    for when in ("wait", "fail", "fallback"):
        assert denied(held, when) == Wait(2.0, "the budget over everything is held by calls in flight")


def test_a_request_above_a_limit_fails() -> None:
    too_dear = Impossible("workflow/nightly", "usd", 2_000_000_000, 1_000_000_000)
    words = "can cost up to $2.00, and the whole budget of workflow/nightly is $1.00"
    assert never(too_dear) == Fail("budget_too_small", words)
    large = Impossible("acme/0/small", "tpm", 9_000, 1_000)
    assert never(large) == Fail("request_too_large", "needs 9,000 tpm, and acme/0/small allows 1,000")


def test_a_wait_past_the_deadline_ends_at_it() -> None:
    assert denied(SPENT, left=100.0) == Wait(101.0, "the budget of nightly is spent")
    assert denied(SPENT, left=-5.0) == Wait(1.0, "the budget of nightly is spent")
    assert denied(PAUSE, left=20.0) == Wait(21.0, PAUSED), "a job that nobody has refused yet may be lucky"


def test_a_failed_job_ends_if_no_route_opens_before_its_deadline() -> None:
    words = f"slow down (would have to wait 30 s, past its deadline: {PAUSED})"
    assert denied(PAUSE, left=20.0, error=REFUSED) == Fail("deadline_exceeded", words, 429)
    assert denied(PAUSE, left=40.0, error=REFUSED) == Wait(30.0, PAUSED)
    assert denied(PAUSE, error=REFUSED) == Wait(30.0, PAUSED)
    crowded = Denied("rpm", "acme/1/small", 30.0, 5.0)
    assert isinstance(denied(crowded, left=20.0, error=REFUSED), Wait), "another that waits for the same may go before"
