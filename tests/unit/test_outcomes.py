"""Which buckets a failure pauses, and which ones an answer's headers update."""

import pytest

from limits.bucket import Quota
from limits.reservation import Level, Throttle
from tasks.jobs.outcomes import levels, throttles
from workers.models.routing import Route
from workers.providers.counting_profiles import PROFILES
from workers.providers.errors import CallFailed, ProviderError, Throttled, Unavailable
from workers.providers.headers import Level as Told
from workers.providers.headers import RateLimits

NONE = Quota()
MINUTES = Quota(rpm=600, tpm=60_000)
REQUESTS, TOKENS = Quota(rpm=600), Quota(tpm=60_000)
DAYS = Quota(rpd=1_000)


def route(model: Quota, account: Quota | None = None) -> Route:
    buckets = [("p/0/m", model)] + ([("p/0", account)] if account else [])
    return Route("p", "m", 0, 1.0, "p/m", "p/0", tuple(buckets), PROFILES["plain"], None)


@pytest.mark.parametrize(
    ("model", "account", "error", "expected"),
    [
        pytest.param(MINUTES, None, Throttled(retry_after=7.0), [Throttle("p/0/m", 7.0)], id="the model's"),
        pytest.param(MINUTES, None, Throttled(retry_after=0.0), [Throttle("p/0/m")], id="zero is no word"),
        pytest.param(
            MINUTES, None, Throttled(dimension="tpm"), [Throttle("p/0/m", None, "tpm")], id="the limit that was named"
        ),
        pytest.param(
            NONE,
            MINUTES,
            Throttled(retry_after=60.0),
            [Throttle("p/0/m", 60.0, limited=True), Throttle("p/0", 60.0, longest=5.0)],
            id="only the account has limits: it learns, and waits for a while",
        ),
        pytest.param(
            NONE,
            MINUTES,
            Throttled(),
            [Throttle("p/0/m", limited=True), Throttle("p/0", longest=5.0)],
            id="and no wait was told",
        ),
        pytest.param(
            DAYS,
            MINUTES,
            Throttled(),
            [Throttle("p/0/m", limited=True), Throttle("p/0", longest=5.0)],
            id="a day's is no minute's",
        ),
        pytest.param(NONE, DAYS, Throttled(), [Throttle("p/0/m")], id="the account has no minute's limit either"),
        pytest.param(
            MINUTES, MINUTES, Throttled(), [Throttle("p/0/m", limited=True)], id="both have: taken for the model's"
        ),
        pytest.param(
            REQUESTS, None, Throttled(dimension="tpm"), [Throttle("p/0/m")], id="a limit that nobody has configured"
        ),
        pytest.param(
            REQUESTS,
            None,
            Throttled(dimension="tpd"),
            [Throttle("p/0/m", None, "tpd")],
            id="a day's says nothing of ours",
        ),
        pytest.param(
            REQUESTS,
            TOKENS,
            Throttled(dimension="tpm"),
            [Throttle("p/0/m", None, "tpm"), Throttle("p/0", None, "tpm", longest=5.0)],
            id="a limit that only the account has",
        ),
        pytest.param(
            TOKENS,
            REQUESTS,
            Throttled(dimension="tpm"),
            [Throttle("p/0/m", None, "tpm", limited=True)],
            id="a limit that only the model has",
        ),
        pytest.param(
            TOKENS,
            REQUESTS,
            Throttled(),
            [Throttle("p/0/m", limited=True), Throttle("p/0", longest=5.0)],
            id="nothing is named, and only the account limits requests",
        ),
        pytest.param(
            NONE,
            MINUTES,
            Unavailable(retry_after=30.0),
            [Throttle("p/0/m", 30.0, overload=True, limited=True)],
            id="an overload is the model's, and teaches nothing",
        ),
        pytest.param(MINUTES, None, Unavailable(), [], id="an overload without a wait"),
        pytest.param(
            MINUTES, None, Unavailable(code="slow_down"), [Throttle("p/0/m")], id="a rate that rose too quickly"
        ),
        pytest.param(
            MINUTES,
            None,
            Unavailable(code="slow_down", retry_after=900.0),
            [Throttle("p/0/m", 900.0, overload=True)],
            id="the same, with the wait that it asks for",
        ),
        pytest.param(MINUTES, None, CallFailed(code="slow_down"), [], id="another failure by that name"),
        pytest.param(MINUTES, None, CallFailed(retry_after=30.0), [], id="another failure"),
    ],
)
def test_what_a_failure_pauses(
    model: Quota, account: Quota | None, error: ProviderError, expected: list[Throttle]
) -> None:
    assert list(throttles(route(model, account), error)) == expected


def test_which_bucket_the_headers_limits_belong_to() -> None:
    told = RateLimits(rpm=Told(600, 599), tpm=Told(1_000, 900))
    rpm, tpm = Level(600, 599), Level(1_000, 900)
    assert levels(route(MINUTES), told) == {"p/0/m": {"rpm": rpm, "tpm": tpm}}
    assert levels(route(MINUTES, MINUTES), told) == {"p/0/m": {"rpm": rpm, "tpm": tpm}}
    # An account's limit of requests is the reported one; its limit of tokens isn't.
    assert levels(route(NONE, MINUTES), told) == {"p/0": {"rpm": rpm}, "p/0/m": {"tpm": tpm}}
    assert levels(route(NONE, DAYS), RateLimits(rpm=Told(None, 5))) == {"p/0/m": {"rpm": Level(None, 5)}}
    assert levels(route(MINUTES), RateLimits()) == {}
