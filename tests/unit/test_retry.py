"""What follows from a failure or a denial."""

import math
from dataclasses import replace

import pytest

from limits.reservation import Denied, Impossible
from tasks.jobs.retry import (
    BACKOFF,
    BUDGET_CHECK,
    MAX_ALONE,
    MAX_BACKOFF,
    MAX_THROTTLE,
    THROTTLE,
    Decision,
    Fail,
    FallBack,
    Retry,
    Wait,
    decide,
    never,
    not_admitted,
)
from workers.models.routing import NoPrice
from workers.providers import errors


def follows(error: errors.ProviderError, **more: object) -> Decision:
    given: dict[str, object] = {
        "attempts": 1,
        "max_attempts": 5,
        "throttles": 1,
        "other_targets": False,
        "other_routes": False,
        "time_left": None,
        "spread": 0.5,
    }
    return decide(error, **(given | more))  # type: ignore[arg-type]


def test_a_429_waits_for_its_retry_after_and_spends_no_attempt() -> None:
    assert follows(errors.Throttled(retry_after=17.5)) == Wait(17.5, "429: rate limit")
    assert follows(errors.Throttled(retry_after=7200.0), attempts=4) == Wait(7200.0, "429: rate limit")


def test_a_429_without_retry_after_waits_longer_each_time() -> None:
    waits = [follows(errors.Throttled(), throttles=count) for count in (1, 2, 3, 50)]
    assert [each.seconds for each in waits if isinstance(each, Wait)] == [
        THROTTLE,
        2 * THROTTLE,
        4 * THROTTLE,
        MAX_THROTTLE,
    ]


def test_a_failure_goes_to_another_target_at_once() -> None:
    assert follows(errors.CallFailed(), other_targets=True) == Retry(0.0, exclude=True, backoff=BACKOFF)
    late = follows(errors.CallFailed(), attempts=3, other_targets=True, time_left=1.0)
    assert late == Retry(0.0, exclude=True, backoff=4.0), "which comes after the deadline, and is not needed"
    waits = follows(errors.Unavailable(retry_after=30.0), other_targets=True)
    assert waits == Retry(0.0, exclude=True, backoff=30.0)


@pytest.mark.parametrize(("attempts", "seconds"), [(1, BACKOFF), (2, 2.0), (3, 4.0), (4, 8.0)])
def test_without_another_target_the_wait_doubles(attempts: int, seconds: float) -> None:
    assert follows(errors.CallFailed(), attempts=attempts) == Retry(seconds)


def test_the_backoff_has_a_maximum_and_a_spread() -> None:
    assert follows(errors.CallFailed(), attempts=40, max_attempts=99) == Retry(MAX_BACKOFF)
    assert follows(errors.CallFailed(), spread=0.0) == Retry(BACKOFF / 2)
    assert follows(errors.CallFailed(), spread=1.0) == Retry(BACKOFF * 1.5)


def test_a_retry_after_is_a_lower_bound() -> None:
    assert follows(errors.Unavailable(retry_after=30.0)) == Retry(30.0)


def test_the_last_attempt_fails_the_job() -> None:
    decision = follows(errors.CallFailed("boom", status=500, code="server_error"), attempts=5)
    assert decision == Fail("server_error", "boom (given up after 5 attempts)", 500)


def test_a_refused_request_fails_at_once() -> None:
    refused = errors.Refused("no such field", status=400, code="invalid_request_error")
    assert follows(refused, other_targets=True) == Fail("invalid_request_error", "no such field", 400)
    assert isinstance(follows(errors.TooLarge("too large", status=429, code="too_large")), Fail)


def test_a_blocked_account_waits_or_uses_another_route() -> None:
    blocked = follows(errors.AccountBlocked(status=401, code="invalid_api_key"), other_routes=True)
    assert isinstance(blocked, Wait)
    assert blocked.other_routes
    assert blocked.seconds > 0


@pytest.mark.parametrize("error", [errors.Throttled(retry_after=60.0), errors.Unavailable(retry_after=60.0)])
def test_a_wait_past_the_deadline_fails_now(error: errors.ProviderError) -> None:
    decision = follows(error, time_left=59.0)
    assert isinstance(decision, Fail)
    assert decision.code == "deadline_exceeded"
    assert "would have to wait 60 s" in decision.message
    assert not isinstance(follows(error, time_left=61.0), Fail)


@pytest.mark.parametrize("error", [errors.Throttled("slow down", retry_after=60.0), errors.AccountBlocked("pay")])
def test_another_route_is_asked_before_the_job_fails(error: errors.ProviderError) -> None:
    decision = follows(error, other_routes=True, time_left=59.0)
    assert isinstance(decision, Wait)
    assert decision.other_routes
    assert decision.last_failure == follows(error, time_left=59.0)
    assert isinstance(decision.last_failure, Fail)
    assert follows(error, other_routes=True, time_left=61.0) == follows(error, other_routes=True)
    assert isinstance(follows(error, other_targets=True, time_left=59.0), Fail), (
        "the same account may serve another target"
    )


def test_another_key_does_not_fix_a_failure() -> None:
    failed = errors.Unavailable(retry_after=60.0)
    assert follows(failed, other_routes=True) == Retry(60.0)
    assert isinstance(follows(failed, other_routes=True, time_left=59.0), Fail)


SPENT = Denied("budget", "workflow/nightly", 3_600.0)
TOO_DEAR = Impossible("workflow/nightly", "usd", 2_000_000_000, 1_000_000_000)


def refused(
    answer: Denied | Impossible,
    when: str = "wait",
    cheaper: str | None = None,
    left: float | None = None,
    own_model_in: float = math.inf,
    last_failure: Fail | None = None,
    excluded_for: float | None = None,
) -> object:
    return not_admitted(
        answer,
        when_exhausted=when,
        cheaper=cheaper,
        time_left=left,
        own_model_in=own_model_in,
        last_failure=last_failure,
        excluded_for=excluded_for,
    )


def test_a_spent_budget_waits_fails_or_falls_back() -> None:
    assert refused(SPENT) == Wait(BUDGET_CHECK, "the budget of nightly is spent"), "a person may raise it"
    assert refused(replace(SPENT, retry_in=60.0)) == Wait(60.0, "the budget of nightly is spent")
    assert refused(SPENT, "fail") == Fail("budget_exceeded", "the budget of workflow/nightly is spent")
    assert refused(SPENT, "fallback", "tiny") == FallBack("tiny", BUDGET_CHECK)
    assert refused(SPENT, "fallback") == Wait(BUDGET_CHECK, "the budget of nightly is spent"), "the fallback waits"
    assert refused(Denied("budget", "all", None)) == Wait(BUDGET_CHECK, "the budget over everything is spent"), (
        "a person may raise it"
    )


def test_held_money_may_come_back() -> None:
    held = Denied("budget_held", "all", 2.0)
    for when, cheaper in (("wait", None), ("fail", None), ("fallback", "tiny")):
        assert refused(held, when, cheaper) == Wait(2.0, "the budget over everything is held by calls in flight")


def test_a_job_above_the_whole_budget_falls_back_or_fails() -> None:
    words = "can cost up to $2.00, and the whole budget of workflow/nightly is $1.00"
    assert refused(TOO_DEAR) == Fail("budget_too_small", words)
    assert refused(TOO_DEAR, "fallback", "tiny") == FallBack("tiny", math.inf)


def test_a_request_above_a_limit_always_fails() -> None:
    large = Impossible("acme/0/small", "tpm", 9_000, 1_000)
    words = "needs 9,000 tpm, and acme/0/small allows 1,000"
    assert refused(large, "fallback", "tiny") == Fail("request_too_large", words)


@pytest.mark.parametrize(
    ("cheaper", "words"),
    [
        (Impossible("acme/0/tiny", "tpm", 9_000, 1_000), "needs 9,000 tpm, and acme/0/tiny allows 1,000"),
        (TOO_DEAR, "can cost up to $2.00, and the whole budget of workflow/nightly is $1.00"),
    ],
)
def test_an_unfit_cheaper_model_does_not_fail_a_payable_job(cheaper: Impossible, words: str) -> None:
    words = f"its own model cannot be paid yet, and the cheaper one {words}"
    assert refused(cheaper, "fallback", own_model_in=3_600.0) == Wait(3_600.0, words)
    assert refused(cheaper, "fallback", left=100.0, own_model_in=3_600.0) == Wait(101.0, words)
    assert refused(cheaper, "fallback", left=100.0, own_model_in=50.0) == Wait(50.0, words)
    late = Fail("deadline_exceeded", "slow down (would have to wait 60 s, past its deadline)", 429)
    assert refused(cheaper, "fallback", left=100.0, own_model_in=3_600.0, last_failure=late) == late
    assert isinstance(refused(cheaper, "fallback"), Fail), "no model of the job's will ever be payable"


def test_an_unpriced_cheaper_model_does_not_fail_a_payable_job() -> None:
    unpriced = NoPrice("acme/tiny")
    assert never(unpriced, time_left=None, own_model_in=math.inf, last_failure=None) == Fail("no_price", str(unpriced))
    words = f"its own model cannot be paid yet, and the cheaper one cannot be asked: {unpriced}"
    assert never(unpriced, time_left=None, own_model_in=3_600.0, last_failure=None) == Wait(3_600.0, words)
    assert never(unpriced, time_left=100.0, own_model_in=3_600.0, last_failure=None) == Wait(101.0, words)
    late = Fail("deadline_exceeded", "slow down (would have to wait 60 s, past its deadline)", 429)
    assert never(unpriced, time_left=100.0, own_model_in=3_600.0, last_failure=late) == late


@pytest.mark.parametrize(
    ("answer", "when", "cheaper", "why"),
    [
        (Impossible("b/0/tiny", "tpm", 9_000, 1_000), "wait", None, "it needs 9,000 tpm, and b/0/tiny allows 1,000"),
        (TOO_DEAR, "wait", None, "it can cost up to $2.00, and the whole budget of workflow/nightly is $1.00"),
        (TOO_DEAR, "fallback", "tiny", "it can cost up to $2.00, and the whole budget of workflow/nightly is $1.00"),
        (SPENT, "fail", None, "the budget of nightly is spent"),
        (SPENT, "fallback", "tiny", "the budget of nightly is spent"),
    ],
)
def test_another_targets_denial_does_not_end_the_job(
    answer: Denied | Impossible, when: str, cheaper: str | None, why: str
) -> None:
    words = f"the target that failed is asked again, since no other takes the job: {why}"
    assert refused(answer, when, cheaper, excluded_for=4.0) == Wait(4.0, words)
    assert refused(answer, when, cheaper, excluded_for=4.0, left=5.0) == Wait(4.0, words)
    last = refused(answer, when, cheaper)
    assert isinstance(last, Fail | FallBack)
    assert refused(answer, when, cheaper, excluded_for=4.0, left=4.0) == last, "it may not be asked before the deadline"


def test_a_short_denial_keeps_failed_targets_excluded() -> None:
    pause = Denied("pause", "acme/1/small", 30.0, 30.0)
    assert refused(pause, excluded_for=4.0) == refused(pause)


def test_a_wait_past_the_deadline_ends_at_it() -> None:
    assert refused(SPENT, left=100.0) == Wait(101.0, "the budget of nightly is spent")
    assert refused(SPENT, left=-5.0) == Wait(1.0, "the budget of nightly is spent")


def test_a_refused_job_fails_if_no_route_opens_in_time() -> None:
    late = Fail("deadline_exceeded", "slow down (would have to wait 60 s, past its deadline)", 429)
    pause = Denied("pause", "acme/1/small", 30.0, 30.0)
    words = f"{late.message}; no other route opens before it: acme/small (key 2) has answered 429 and is paused"
    assert refused(pause, left=20.0, last_failure=late) == Fail("deadline_exceeded", words, 429)
    waits = "acme/small (key 2) has answered 429 and is paused"
    assert refused(pause, left=40.0, last_failure=late) == Wait(30.0, waits)
    assert refused(pause, left=20.0) == Wait(21.0, waits), "a job that nobody has refused yet may be lucky"
    assert refused(pause, left=20.0, own_model_in=10.0, last_failure=late) == Wait(10.0, waits), (
        "its own model goes before"
    )
    crowded = Denied("rpm", "acme/1/small", 30.0, 5.0)
    assert isinstance(refused(crowded, left=20.0, last_failure=late), Wait), (
        "others that wait for the same may be admitted before"
    )
    assert refused(SPENT, "fallback", "tiny", left=20.0, last_failure=late) == FallBack("tiny", BUDGET_CHECK)


def test_429s_about_a_jobs_size_end_it_after_six() -> None:
    error = errors.Throttled("too long", code="rate_limit_error", status=429, only_for="size")
    waits = [follows(error, throttles=count, alone=count) for count in range(1, MAX_ALONE)]
    assert waits == [Retry(THROTTLE * 2**count) for count in range(MAX_ALONE - 1)]
    assert follows(error, alone=1, other_targets=True) == Retry(0.0, exclude=True, backoff=THROTTLE)
    words = f"too long (shorter requests are answered; given up after {MAX_ALONE})"
    assert follows(error, alone=MAX_ALONE) == Fail("rate_limit_error", words, 429)


def test_a_job_waits_for_a_tier_without_capacity() -> None:
    error = errors.Throttled("Resource Unavailable", only_for="tier", retry_after=9.0)
    assert follows(error, throttles=50) == Retry(9.0)


def test_a_refusal_that_blocks_no_account_spends_an_attempt() -> None:
    error = errors.AccountBlocked("no", code="permission_error")
    assert isinstance(follows(error), Wait)
    error.blocked = False
    assert follows(error) == Retry(BACKOFF)
    assert follows(error, attempts=5) == Fail("permission_error", "no (given up after 5 attempts)", None)
