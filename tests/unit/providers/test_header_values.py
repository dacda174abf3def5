"""Counts and waits in headers, in every form that providers write."""

import math
from datetime import UTC, datetime

import pytest

from workers.providers.headers import (
    LONGEST_WAIT,
    Level,
    RateLimits,
    count,
    parse_limits,
    seconds_until,
)

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "many",
        "9" * 300,
        "0x10",
        "None",
        "null",
        "١٢ ٣",
        "1,000",
    ],
)
def test_an_implausible_count_is_ignored(text: str) -> None:
    assert count(text) is None
    assert (
        parse_limits({"x-ratelimit-remaining-tokens": text, "x-ratelimit-reset-tokens": "1s"}, now=NOW) == RateLimits()
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("1.5", 1.5),
        ("12", 12.0),
        ("20ms", 0.02),
        ("6m0s", 360.0),
        ("4h43m36.314s", 17016.314),
        ("57.238747106s", 57.238747106),
        ("1d2h", LONGEST_WAIT),
        ("999999", LONGEST_WAIT),
        ("1e6", LONGEST_WAIT),
        ("2026-11-24T12:01:00Z", 60.0),
        ("2026-11-24T13:01:00.5+01:00", 60.5),
        ("2026-11-24T11:59:00Z", 0.0),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tuesday, 24-Nov-26 12:00:30 GMT", 30.0),
        ("Tue Nov 24 12:00:30 2026", 30.0),
        (str(int(NOW) + 5), 5.0),
        (str(int(NOW * 1000) + 5500), 5.5),
        ("-1", None),
        ("-0.5", None),
        ("inf", None),
        ("nan", None),
        ("1e999", None),
        ("", None),
        ("soon", None),
        ("5 apples", None),
        ("6m 0s;drop", None),
        ("9999-99-99T99:99:99Z", None),
        ("Foo, 99 Bar 2026 99:99:99 GMT", None),
        ("1s" * 500, None),
    ],
)
def test_a_wait_in_any_form(text: str, seconds: float | None) -> None:
    wait = seconds_until(text, NOW)
    assert wait == seconds if seconds is None else math.isclose(wait or 0.0, seconds, abs_tol=1e-6)


def test_a_reset_is_measured_by_the_providers_own_clock() -> None:
    """A machine whose clock is an hour off must not wait an hour."""
    headers = {
        "date": "Tue, 24 Nov 2026 12:00:00 GMT",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2026-11-24T12:00:10Z",
    }
    limits = parse_limits(headers, now=NOW - 3600)
    assert limits.rpm == Level(None, 0, 10.0)
