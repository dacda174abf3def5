"""Every form in which a provider asks callers to wait; `source` names where a capture was published."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from workers.providers.headers import LONGEST_WAIT
from workers.providers.retry_after import parse_retry_after, wait_in_text

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC).timestamp()


def gemini(*details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota.", "details": list(details)}}


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "57.238747106s"}


def quota_failure(quota_id: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]}


FORMS: list[tuple[str, dict[str, str], Any, float | None]] = [
    ("seconds", {"retry-after": "16"}, None, 16.0),
    ("a fraction", {"retry-after": "0.75"}, None, 0.75),
    ("an http date", {"retry-after": "Tue, 24 Nov 2026 12:00:45 GMT"}, None, 45.0),
    (
        "an http date, by the provider's clock",
        {"retry-after": "Tue, 24 Nov 2026 13:00:45 GMT", "date": "Tue, 24 Nov 2026 13:00:00 GMT"},
        None,
        45.0,
    ),
    ("a date that has passed", {"retry-after": "Tue, 24 Nov 2026 11:00:00 GMT"}, None, 0.0),
    ("milliseconds", {"retry-after-ms": "523"}, None, 0.523),
    ("milliseconds beside their rounding", {"retry-after-ms": "523", "retry-after": "1"}, None, 0.523),
    (
        "milliseconds that a longer wait contradicts",
        {"retry-after-ms": "500", "retry-after": "30"},
        None,
        30.0,
    ),
    ("a zero of milliseconds hides nothing", {"retry-after-ms": "0", "retry-after": "30"}, None, 30.0),
    ("hours", {"retry-after": "20000"}, None, 20000.0),
    ("azure's day: github.com/jasonacox/TinyLLM/issues/17", {"retry-after": "86400"}, None, LONGEST_WAIT),
    ("an absurd wait", {"retry-after": "99999999"}, None, LONGEST_WAIT),
    ("negative", {"retry-after": "-5"}, None, None),
    ("infinite", {"retry-after": "inf", "retry-after-ms": "nan"}, None, None),
    ("garbage", {"retry-after": "later, perhaps"}, None, None),
    ("empty", {"retry-after": ""}, None, None),
    ("nothing", {}, None, None),
    ("a plain zero", {"retry-after": "0"}, None, 0.0),
    (
        "a zero beside nothing remaining gives way to the reset",
        {"retry-after": "0", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "12"},
        None,
        12.0,
    ),
    (
        "azure's trap, with the one second that it says: the period in which the count is renewed",
        {
            "retry-after": "1",
            "retry-after-ms": "0",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "0",
            "x-ratelimit-renewalperiod-tokens": "60",
        },
        None,
        60.0,
    ),
    ("one second that is no millisecond", {"retry-after": "1", "retry-after-ms": "0"}, None, 0.0),
    (
        "azure's trap without it",
        {
            "retry-after-ms": "0",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "0",
            "x-ratelimit-renewalperiod-tokens": "60",
        },
        None,
        60.0,
    ),
    (
        "no header but resets: the longest of what is used up",
        {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "2s",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "6m0s",
        },
        None,
        360.0,
    ),
    (
        "a reset of what is not used up says nothing",
        {"x-ratelimit-remaining-tokens": "100", "x-ratelimit-reset-tokens": "6m0s"},
        None,
        None,
    ),
    (
        "anthropic: github.com/anthropics/anthropic-sdk-typescript/issues/357",
        {
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "2024-03-26T20:00:00Z",
            "date": "Tue, 26 Mar 2024 19:59:59 GMT",
        },
        None,
        1.0,
    ),
    ("gemini's RetryInfo", {}, gemini(RETRY_INFO), 57.238747106),
    ("gemini's list around it", {}, [gemini(RETRY_INFO)], 57.238747106),
    (
        "gemini's minute",
        {},
        gemini(quota_failure("GenerateRequestsPerMinutePerProjectPerModel"), RETRY_INFO),
        57.238747106,
    ),
    # Midnight Pacific is 08:00 UTC in November.
    (
        "gemini's day",
        {},
        gemini(RETRY_INFO, quota_failure("GenerateRequestsPerDayPerProjectPerModel")),
        20 * 3600.0,
    ),
    (
        "openrouter's headers in the body: github.com/Gitlawb/openclaude/issues/936",
        {},
        {
            "error": {
                "message": "Rate limit exceeded: free-models-per-day.",
                "code": 429,
                "metadata": {
                    "headers": {
                        "X-RateLimit-Limit": "50",
                        "X-RateLimit-Remaining": "0",
                        "X-RateLimit-Reset": str(int((NOW + 900) * 1000)),
                    }
                },
            }
        },
        900.0,
    ),
    (
        "openai's words: github.com/FoundationAgents/MetaGPT/issues/523",
        {},
        {
            "error": {
                "message": "Rate limit reached for gpt in organization org on tokens per min: Limit 10000,"
                " Used 8554, Requested 3082. Please try again in 9.816s. Visit the page."
            }
        },
        9.816,
    ),
    ("azure's words", {}, {"error": {"code": "429", "message": "Please retry after 45 seconds."}}, 45.0),
    ("words that are all there is", {}, "Too many requests, try again in 2 minutes", 120.0),
    ("a header wins over words", {"retry-after": "3"}, {"error": {"message": "try again in 20s"}}, 3.0),
    (
        "words win over a header's zero",
        {"retry-after": "0"},
        {"error": {"message": "try again in 20s"}},
        20.0,
    ),
]


@pytest.mark.parametrize(("name", "headers", "body", "seconds"), FORMS, ids=[form[0] for form in FORMS])
def test_form(name: str, headers: dict[str, str], body: Any, seconds: float | None) -> None:
    wait = parse_retry_after(headers, body, now=NOW)
    if seconds is None:
        assert wait is None, name
    else:
        assert wait is not None, name
        assert math.isclose(wait, seconds, abs_tol=1e-6), name


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please try again in 1.2s.", 1.2),
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 1h12m3.5s.", 4323.5),
        ("Please retry in 57.2387s.", 57.2387),
        ("Please retry after 86400 seconds. Please contact support", 86_400.0),
        ("Retry after 5 minutes", 300.0),
        ("please wait 3 seconds", 3.0),
        ("try again in 99999999 hours", LONGEST_WAIT),
        ("try again later", None),
        ("retry after the moon has set", None),
        ("Limit 10000, Used 8554", None),
        ("", None),
    ],
)
def test_words(text: str, seconds: float | None) -> None:
    wait = wait_in_text(text)
    assert wait == seconds if seconds is None else math.isclose(wait or 0.0, seconds, abs_tol=1e-9)


@pytest.mark.parametrize(
    "body",
    [
        [],
        [[]],
        {"error": None},
        {"error": []},
        {"error": {"details": {"a": 1}}},
        {"error": {"details": [None, 3, {"@type": 5, "retryDelay": 7}]}},
        {"error": {"details": [{"@type": "x/google.rpc.QuotaFailure", "violations": "PerDay"}]}},
        {"error": {"metadata": {"headers": [1]}, "message": 5}},
        {"error": {"metadata": {"headers": {"retry-after": {"a": 1}}}}},
        "try again in " + "9" * 5000 + "s",
        7,
    ],
)
def test_a_hostile_body_tells_nothing_and_raises_nothing(body: Any) -> None:
    assert parse_retry_after({}, body, now=NOW) is None
