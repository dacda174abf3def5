"""How long a provider asks callers to wait, wherever it says so.

The first of these that says anything:

1. `retry-after-ms` and `retry-after` (RFC 9110, section 10.2.3: seconds or an HTTP date, sometimes
   with fractions). If both exist, the finer one counts, unless the other is longer by more than its rounding.
2. Gemini's `google.rpc.RetryInfo` in the body; a quota of a day ends at midnight Pacific time instead.
3. The headers that OpenRouter puts into the body (`error.metadata.headers`).
4. The text: OpenAI's "Please try again in 1.2s", Azure's "Please retry after 45 seconds".
5. A plain zero of (1), unless something has nothing remaining: Azure sends it beside used-up tokens, as
   `retry-after-ms: 0` with `retry-after: 1`.
6. The latest reset of what has nothing remaining; Azure's renewal period if that reset is zero.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from limits.bucket import MINUTES
from workers.providers.headers import RateLimits, bounded, clock_of, count, parse_limits, seconds_until

# A server that counts milliseconds rounds whole seconds up, by less than this. Seconds.
_ROUNDING: Final = 1.0

# The characters of a message that are searched for a wait.
_SEARCHED_TEXT: Final = 2_000

_UNIT: Final = r"milliseconds?|seconds?|minutes?|hours?|days?|secs?|mins?|hrs?|ms|s|m|h|d"
_IN_TEXT: Final = re.compile(
    rf"(?:try again|retry|retrying|wait|available)(?:\s(?:in|after|for))?:?\s"
    rf"((?:\d{{1,10}}(?:\.\d{{1,12}})?\s?(?:{_UNIT})\b[\s,]{{0,2}}|\d{{1,10}}(?:\.\d{{1,12}})?(?:{_UNIT}))"
    rf"(?:\d{{1,10}}(?:\.\d{{1,12}})?\s?(?:{_UNIT})[\s,]{{0,2}}){{0,4}})",
    re.IGNORECASE,
)
_PART: Final = re.compile(rf"(\d{{1,10}}(?:\.\d{{1,12}})?)\s?({_UNIT})", re.IGNORECASE)
_SECONDS_OF_INITIAL: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def parse_retry_after(
    headers: Mapping[str, str], body: Any, *, now: float, limits: RateLimits | None = None
) -> float | None:
    """Seconds to wait before the next call, None if the answer doesn't say.

    `headers` have names in lower case. `body` is the decoded JSON or text, or None if it must not be read: the caller
    passes only that of a 429, 503 or 529, since others may contain a model's words. `now` is the wall clock in epoch
    seconds. `limits` are the answer's rate limits, if they are already parsed.
    """
    clock = clock_of(headers, now)
    in_headers = _in_headers(headers, clock)
    if in_headers:
        return in_headers
    error = _error(body)
    wait = _in_details(error, clock)
    if wait is None:
        wait = _in_metadata(error, now)
    if wait is None:
        wait = wait_in_text(_text(error, body))
    if wait:
        return wait
    limits = parse_limits(headers, now=now) if limits is None else limits
    used_up = [(dimension, level) for dimension, level in limits.items() if level.remaining == 0]
    if not used_up:
        return in_headers if wait is None else wait
    resets = [level.reset or _renewal(headers, dimension) for dimension, level in used_up]
    return max((reset for reset in resets if reset), default=None)


#: A limit of a minute recovers in a minute or two, so a longer wait than this contradicts it. Seconds.
CONTRADICTS: Final = 600.0

#: What is waited instead before the next try. Seconds.
TESTED_AFTER: Final = 300.0


def believable(wait: float | None, dimension: str, limits: RateLimits | None) -> float | None:
    """The wait, or `TESTED_AFTER` if it is far too long for the limit that the refusal names.

    `dimension` is the limit named in words. If it is '', the limits that the headers report as used up count.
    """
    if wait is None or wait <= CONTRADICTS:
        return wait
    used_up = (
        {dimension}
        if dimension
        else {name for name, level in limits.items() if level.remaining == 0}
        if limits
        else set()
    )
    return TESTED_AFTER if used_up and used_up <= MINUTES else wait


def _in_headers(headers: Mapping[str, str], clock: float) -> float | None:
    milliseconds = _plain_number(headers.get("retry-after-ms", ""))
    fine = None if milliseconds is None else bounded(milliseconds / 1000)
    coarse = seconds_until(headers.get("retry-after", ""), clock)
    if fine is None or coarse is None:
        return coarse if fine is None else fine
    return fine if coarse - fine <= _ROUNDING else coarse


def _plain_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _renewal(headers: Mapping[str, str], dimension: str) -> float | None:
    kind = "requests" if dimension.startswith("r") else "tokens"
    value = count(headers.get(f"x-ratelimit-renewalperiod-{kind}", ""))
    return None if value is None else bounded(float(value))


def _error(body: Any) -> Mapping[str, Any]:
    # Gemini's OpenAI-compatible endpoint wraps its error object in a list.
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else body if isinstance(body, dict) else {}


def _text(error: Mapping[str, Any], body: Any) -> str:
    message = error.get("message", body)
    return message if isinstance(message, str) else ""


def wait_in_text(text: str) -> float | None:
    """The wait that a message states in words: "try again in 6m0s", "retry after 45 seconds"."""
    match = _IN_TEXT.search(text[:_SEARCHED_TEXT])
    if match is None:
        return None
    total = 0.0
    for number, unit in _PART.findall(match[1].lower()):
        scale = 0.001 if unit.startswith(("ms", "milli")) else _SECONDS_OF_INITIAL[unit[0]]
        total += float(number) * scale
    return bounded(total)


def _in_details(error: Mapping[str, Any], clock: float) -> float | None:
    details = error.get("details")
    wait = None
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        kind = str(detail.get("@type", ""))
        if kind.endswith("google.rpc.RetryInfo") and isinstance(delay := detail.get("retryDelay"), str):
            wait = seconds_until(delay, clock)
        elif kind.endswith("google.rpc.QuotaFailure") and _is_daily(detail):
            return _until_midnight_pacific(clock)
    return wait


def _is_daily(quota_failure: Mapping[str, Any]) -> bool:
    violations = quota_failure.get("violations")
    return isinstance(violations, list) and any(
        isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId", "")) for violation in violations
    )


def _until_midnight_pacific(clock: float) -> float | None:
    """Gemini's daily limits reset at midnight Pacific time (ai.google.dev, "Rate limits")."""
    try:
        zone = ZoneInfo("America/Los_Angeles")
        here = datetime.fromtimestamp(clock, zone)
    except (ZoneInfoNotFoundError, OverflowError, ValueError, OSError):
        return None
    midnight = (here + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return bounded(midnight.timestamp() - clock)


def _in_metadata(error: Mapping[str, Any], now: float) -> float | None:
    metadata = error.get("metadata")
    inner = metadata.get("headers") if isinstance(metadata, dict) else None
    if not isinstance(inner, dict):
        return None
    headers = {str(name).lower(): str(text) for name, text in inner.items()}
    wait = _in_headers(headers, clock_of(headers, now))
    return wait or seconds_until(headers.get("x-ratelimit-reset", ""), now)
