"""Rate-limit headers of every provider, from captures; `source` says where each was published."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from workers.providers.headers import (
    Level,
    RateLimits,
    parse_limits,
)

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Capture:
    name: str
    source: str
    headers: dict[str, str]
    limits: RateLimits
    requests_are_daily: bool = False


CAPTURES = [
    Capture(
        "openai",
        "github.com/open-webui/open-webui/issues/3743",
        {
            "x-ratelimit-limit-requests": "500",
            "x-ratelimit-limit-tokens": "30000",
            "x-ratelimit-remaining-requests": "499",
            "x-ratelimit-remaining-tokens": "29996",
            "x-ratelimit-reset-requests": "120ms",
            "x-ratelimit-reset-tokens": "8ms",
        },
        RateLimits(rpm=Level(500, 499, 0.12), tpm=Level(30_000, 29_996, 0.008)),
    ),
    Capture(
        "openai, the documentation's sample",
        "github.com/alexrudall/ruby-openai/issues/419",
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-reset-tokens": "6m0s",
        },
        RateLimits(rpm=Level(60, 59, 1.0), tpm=Level(150_000, 149_984, 360.0)),
    ),
    Capture(
        "openai: the project's tokens are fewer than the organisation's",
        "platform.openai.com, Rate limits: x-ratelimit-*-project-tokens",
        {
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-limit-project-tokens": "40000",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-remaining-project-tokens": "12",
            "x-ratelimit-reset-tokens": "6ms",
            "x-ratelimit-reset-project-tokens": "59.98s",
        },
        RateLimits(tpm=Level(40_000, 12, 59.98)),
    ),
    Capture(
        "azure, a good answer: no limits, no resets",
        "github.com/EvolvingPrograms/oaib/issues/11",
        {
            "apim-request-id": "bb943c68-99ed-46ab-bda9-a5efbdf5897a",
            "x-ratelimit-remaining-requests": "79",
            "x-ratelimit-remaining-tokens": "61353",
            "date": "Sat, 02 Mar 2024 21:35:09 GMT",
        },
        RateLimits(rpm=Level(None, 79, None), tpm=Level(None, 61_353, None)),
    ),
    Capture(
        "azure: -1 says nothing, and a reset of 0 beside it neither",
        "github.com/openai/openai-dotnet/issues/838",
        {
            "x-ratelimit-limit-tokens": "-1",
            "x-ratelimit-remaining-tokens": "-1",
            "x-ratelimit-reset-tokens": "0",
        },
        RateLimits(),
    ),
    Capture(
        "azure, its other spelling of a reset",
        "github.com/openai/openai-python/issues/937",
        {"x-rate-limit-reset-tokens": "55", "x-ratelimit-remaining-tokens": "0"},
        RateLimits(tpm=Level(None, 0, 55.0)),
    ),
    Capture(
        "anthropic, by input and output",
        "github.com/whoz-oss/coday/issues/110",
        {
            "date": "Mon, 02 Jun 2025 15:14:45 GMT",
            "anthropic-ratelimit-input-tokens-limit": "200000",
            "anthropic-ratelimit-input-tokens-remaining": "0",
            "anthropic-ratelimit-input-tokens-reset": "2025-06-02T15:15:48Z",
            "anthropic-ratelimit-output-tokens-limit": "80000",
            "anthropic-ratelimit-output-tokens-remaining": "80000",
            "anthropic-ratelimit-output-tokens-reset": "2025-06-02T15:14:45Z",
            "anthropic-ratelimit-requests-limit": "4000",
            "anthropic-ratelimit-requests-remaining": "4000",
            "anthropic-ratelimit-requests-reset": "2025-06-02T15:14:45Z",
            "anthropic-ratelimit-tokens-limit": "280000",
            "anthropic-ratelimit-tokens-remaining": "80000",
            "anthropic-ratelimit-tokens-reset": "2025-06-02T15:14:45Z",
            "retry-after": "16",
        },
        RateLimits(
            rpm=Level(4000, 4000, 0.0),
            itpm=Level(200_000, 0, 63.0),
            otpm=Level(80_000, 80_000, 0.0),
            tpm=Level(280_000, 80_000, 0.0),
        ),
    ),
    Capture(
        "anthropic, requests used up",
        "github.com/anthropics/anthropic-sdk-typescript/issues/357",
        {
            "anthropic-ratelimit-requests-limit": "5",
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "2024-03-26T20:00:00Z",
            "anthropic-ratelimit-tokens-limit": "25000",
            "anthropic-ratelimit-tokens-remaining": "16000",
            "anthropic-ratelimit-tokens-reset": "2024-03-26T20:00:00Z",
            "date": "Tue, 26 Mar 2024 19:59:59 GMT",
        },
        RateLimits(rpm=Level(5, 0, 1.0), tpm=Level(25_000, 16_000, 1.0)),
    ),
    Capture(
        "groq: requests count a day",
        "console.groq.com/docs/rate-limits",
        {
            "x-ratelimit-limit-requests": "14400",
            "x-ratelimit-limit-tokens": "18000",
            "x-ratelimit-remaining-requests": "14370",
            "x-ratelimit-remaining-tokens": "17997",
            "x-ratelimit-reset-requests": "2m59.56s",
            "x-ratelimit-reset-tokens": "7.66s",
        },
        RateLimits(rpd=Level(14_400, 14_370, 179.56), tpm=Level(18_000, 17_997, 7.66)),
        requests_are_daily=True,
    ),
    Capture(
        "mistral, since 2026",
        "github.com/mistralai/client-ts/issues/169",
        {
            "x-ratelimit-limit-tokens-minute": "5000000",
            "x-ratelimit-remaining-tokens-minute": "4999911",
            "x-ratelimit-tokens-query-cost": "52",
            "x-ratelimit-limit-req-minute": "720",
            "x-ratelimit-remaining-req-minute": "717",
        },
        RateLimits(rpm=Level(720, 717, None), tpm=Level(5_000_000, 4_999_911, None)),
    ),
    Capture(
        "mistral, before, with months that are left out",
        "PROVIDERS: ratelimitbysize-*, x-ratelimitbysize-*-{minute,month}",
        {
            "ratelimitbysize-limit": "500000",
            "ratelimitbysize-remaining": "499955",
            "ratelimitbysize-reset": "29",
            "ratelimitbysize-query-cost": "45",
            "x-ratelimitbysize-limit-minute": "500000",
            "x-ratelimitbysize-remaining-minute": "499955",
            "x-ratelimitbysize-limit-month": "1000000000",
            "x-ratelimitbysize-remaining-month": "0",
        },
        RateLimits(tpm=Level(500_000, 499_955, 29.0)),
    ),
    Capture(
        "cerebras: a day of requests, a minute of tokens",
        "inference-docs.cerebras.ai, Rate limits",
        {
            "x-ratelimit-limit-requests-day": "14400",
            "x-ratelimit-remaining-requests-day": "14399",
            "x-ratelimit-reset-requests-day": "33011.382867097855",
            "x-ratelimit-limit-tokens-minute": "60000",
            "x-ratelimit-remaining-tokens-minute": "59850",
            "x-ratelimit-reset-tokens-minute": "11.382867097854614",
        },
        RateLimits(rpd=Level(14_400, 14_399, 33011.382867097855), tpm=Level(60_000, 59_850, 11.382867097854614)),
    ),
    Capture(
        "openrouter: epoch milliseconds, hours away: a day's window",
        "github.com/Gitlawb/openclaude/issues/936, with its reset set to this table's day",
        {
            "x-ratelimit-limit": "50",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": str(int((NOW + 7200) * 1000)),
        },
        RateLimits(rpd=Level(50, 0, 7200.0)),
    ),
    Capture(
        "openrouter: a minute's window",
        "openrouter.ai/docs, Limits: 20 requests a minute of free models",
        {
            "x-ratelimit-limit": "20",
            "x-ratelimit-remaining": "3",
            "x-ratelimit-reset": str(int((NOW + 30) * 1000)),
        },
        RateLimits(rpm=Level(20, 3, 30.0)),
    ),
    Capture(
        "ietf draft-11",
        "draft-ietf-httpapi-ratelimit-headers-11, section 4",
        {"ratelimit": '"default";r=50;t=30', "ratelimit-policy": '"default";q=100;w=60'},
        RateLimits(rpm=Level(100, 50, 30.0)),
    ),
    Capture(
        "ietf draft-11, a policy of a day",
        "draft-ietf-httpapi-ratelimit-headers-11, section 3",
        {"ratelimit": '"daily";r=0;t=100', "ratelimit-policy": '"daily";q=1000;w=86400'},
        RateLimits(rpd=Level(1000, 0, 100.0)),
    ),
    Capture(
        "vllm and llama.cpp: none",
        "docs.vllm.ai: its server sends no rate headers",
        {"server": "uvicorn", "content-type": "application/json"},
        RateLimits(),
    ),
]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: capture.name)
def test_capture(capture: Capture) -> None:
    limits = parse_limits(capture.headers, now=NOW, requests_are_daily=capture.requests_are_daily)
    assert {dimension: _rounded(level) for dimension, level in limits.items()} == {
        dimension: _rounded(level) for dimension, level in capture.limits.items()
    }
    assert bool(limits) == bool(capture.limits)


def _rounded(level: Level) -> Level:
    return Level(level.limit, level.remaining, None if level.reset is None else round(level.reset, 6))
