"""Rate limits in an answer's headers: one meaning for a dozen spellings.

| provider       | headers                                                              | a reset is      |
|----------------|----------------------------------------------------------------------|-----------------|
| OpenAI, vLLM   | `x-ratelimit-{limit,remaining,reset}-{requests,tokens,project-tokens}` | `6m0s`, `20ms` |
| Azure          | the same, with -1 for none; `x-ratelimit-renewalperiod-*`            | seconds         |
| Groq           | the same, but `-requests` counts a *day* and `-tokens` a minute      | `2m59.56s`      |
| Mistral        | `x-ratelimit-*-{tokens,req}-minute`, `{x-,}ratelimitbysize-*`        | seconds         |
| Cerebras       | `x-ratelimit-*-{requests-day,tokens-minute}`                         | seconds         |
| Anthropic      | `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-*` | RFC 3339        |
| OpenRouter     | `x-ratelimit-{limit,remaining,reset}`                                | epoch ms        |
| IETF draft-11  | `ratelimit: "default";r=50;t=30`, `ratelimit-policy: …;q=100;w=60`   | seconds         |

Monthly figures have no dimension here and are ignored, as is a value that is empty, negative, infinite, not a number or
beyond 2**53. Nothing raises: headers are untrusted input.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

Dimension = Literal["rpm", "tpm", "itpm", "otpm", "rpd", "tpd"]
_Field = Literal["limit", "remaining", "reset"]

# The longest believable wait, in seconds: a day, the longest window that providers count in. Longer waits are cut to
# it, and the answer after that says more.
LONGEST_WAIT: Final = 86_400.0

# The largest count that is exact in Lua's and JSON's numbers.
_LARGEST_COUNT: Final = 2**53

# Longer values are ignored. Characters.
_LONGEST_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Level:
    """One dimension as the provider counts it: the limit of a window, what remains, seconds until it is full.

    `guessed`: no header says how long the window is.
    """

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What an answer says about each dimension, None if nothing. False if all are None."""

    rpm: Level | None = None
    tpm: Level | None = None
    itpm: Level | None = None
    otpm: Level | None = None
    rpd: Level | None = None
    tpd: Level | None = None

    def items(self) -> Iterator[tuple[Dimension, Level]]:
        for dimension in _DIMENSIONS:
            level = getattr(self, dimension)
            if level is not None:
                yield dimension, level

    def __bool__(self) -> bool:
        return any(True for _ in self.items())


_DIMENSIONS: Final[tuple[Dimension, ...]] = tuple(field.name for field in fields(RateLimits))  # type: ignore[misc]  # its fields are the dimensions
NO_LIMITS: Final = RateLimits()


def _spellings() -> dict[str, tuple[Dimension, _Field]]:
    """Every header whose name identifies the dimension."""
    names: dict[str, tuple[Dimension, _Field]] = {}
    in_suffix: dict[str, Dimension] = {
        "requests": "rpm",
        "tokens": "tpm",
        "project-tokens": "tpm",
        "requests-minute": "rpm",
        "req-minute": "rpm",
        "tokens-minute": "tpm",
        "requests-day": "rpd",
        "req-day": "rpd",
        "tokens-day": "tpd",
    }
    of_anthropic: dict[str, Dimension] = {
        "requests": "rpm",
        "tokens": "tpm",
        "input-tokens": "itpm",
        "output-tokens": "otpm",
    }
    all_fields: tuple[_Field, ...] = ("limit", "remaining", "reset")
    for field in all_fields:
        for suffix, dimension in in_suffix.items():
            names[f"x-ratelimit-{field}-{suffix}"] = (dimension, field)
        for kind, dimension in of_anthropic.items():
            names[f"anthropic-ratelimit-{kind}-{field}"] = (dimension, field)
        names[f"ratelimitbysize-{field}"] = ("tpm", field)
        names[f"x-ratelimitbysize-{field}-minute"] = ("tpm", field)
    # Azure sometimes spells this one differently: github.com/openai/openai-python/issues/937.
    names["x-rate-limit-reset-tokens"] = ("tpm", "reset")
    return names


_NAMED: Final = _spellings()
# OpenRouter's headers, which name no window.
_WINDOWLESS: Final = frozenset({"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"})


def parse_limits(headers: Mapping[str, str], *, now: float, requests_are_daily: bool = False) -> RateLimits:
    """The levels in `headers`, whose names are in lower case.

    `now` is the wall clock in epoch seconds, for resets given as a time. The answer's `date` header is preferred, which
    compares the provider's clock with itself. `requests_are_daily`: request headers count a day, as Groq's do.
    """
    found: dict[Dimension, dict[_Field, list[str]]] = {}
    windowless = False
    for name, text in headers.items():
        if "ratelimit" not in name and "rate-limit" not in name:
            continue
        named = _NAMED.get(name)
        if named is not None:
            dimension, field = named
            if requests_are_daily and dimension == "rpm":
                dimension = "rpd"
            found.setdefault(dimension, {}).setdefault(field, []).append(text)
        elif name in _WINDOWLESS or name == "ratelimit":
            windowless = True
    if not found and not windowless:
        return NO_LIMITS
    clock = clock_of(headers, now)
    levels = {dimension: _level(texts, clock) for dimension, texts in found.items()}
    if windowless and "rpm" not in levels and "rpd" not in levels:
        levels.update(_windowless(headers, clock))
    return RateLimits(**{dimension: level for dimension, level in levels.items() if level is not None})


def _level(texts: Mapping[_Field, list[str]], clock: float) -> Level | None:
    """The most restrictive of several values: OpenAI counts tokens for the organisation and for the project."""
    limits = [limit for text in texts.get("limit", ()) if (limit := count(text)) is not None]
    remaining = [left for text in texts.get("remaining", ()) if (left := count(text)) is not None]
    resets = [wait for text in texts.get("reset", ()) if (wait := seconds_until(text, clock)) is not None]
    if not limits and not remaining:
        return None
    return Level(
        # Azure says 0 or -1 if there is no limit.
        limit=min((value for value in limits if value > 0), default=None),
        remaining=min(remaining, default=None),
        reset=max(resets, default=None),
    )


_ITEM: Final = re.compile(r";\s{0,3}([a-z]{1,2})=(\d{1,15})")
_MINUTE: Final = 60.0


def _windowless(headers: Mapping[str, str], clock: float) -> dict[Dimension, Level | None]:
    """Levels from headers that name no window: a reset within a minute means a minute, else a day."""
    item: dict[str, str] = dict(_ITEM.findall(headers.get("ratelimit", "")[:_LONGEST_TEXT]))
    if item:
        policy: dict[str, str] = dict(_ITEM.findall(headers.get("ratelimit-policy", "")[:_LONGEST_TEXT]))
        level = _level(
            {"limit": [policy.get("q", "")], "remaining": [item.get("r", "")], "reset": [item.get("t", "")]},
            clock,
        )
        window = seconds_until(policy.get("w", item.get("t", "")), clock)
    else:
        level = _level(
            {
                "limit": [headers.get("x-ratelimit-limit", "")],
                "remaining": [headers.get("x-ratelimit-remaining", "")],
                "reset": [headers.get("x-ratelimit-reset", "")],
            },
            clock,
        )
        window = level.reset if level else None
        level = level and replace(level, guessed=True)
    if level and level.limit and item and window and "w" in policy and window < _MINUTE:
        level = replace(level, limit=round(level.limit * _MINUTE / window))  # such as a window of a second
    return {"rpm" if window is None or window <= _MINUTE else "rpd": level}


def count(text: str) -> int | None:
    """A number of requests or tokens, None if the text isn't one."""
    try:
        value = float(text) if len(text) <= _LONGEST_TEXT else math.nan
    except ValueError:
        return None
    return int(value) if 0 <= value <= _LARGEST_COUNT else None


_UNITS: Final = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "us": 1e-6,
    "ns": 1e-9,
}
_DURATION: Final = re.compile(r"(?:\d{1,12}(?:\.\d{1,12})?(?:ms|us|ns|s|m|h|d)){1,6}")
_DURATION_PART: Final = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|us|ns|s|m|h|d)")
# Numbers from here on are epoch seconds: no wait is 31 years long.
_EPOCH_SECONDS: Final = 1e9

# Numbers from here on are epoch milliseconds.
_EPOCH_MILLISECONDS: Final = 1e11


def seconds_until(text: str, clock: float) -> float | None:
    """A wait in seconds from `12`, `1.5`, `6m0s`, `20ms`, an RFC 3339 or HTTP date, epoch seconds or milliseconds.

    A time in the past is 0, and anything longer than a day is a day. None if the text is something else.
    """
    text = text.strip()
    if not text or len(text) > _LONGEST_TEXT:
        return None
    try:
        value = float(text)
    except ValueError:
        if _DURATION.fullmatch(text):
            value = sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))
        else:
            moment = _moment(text)
            return None if moment is None else bounded(max(0.0, moment - clock))
    else:
        if value >= _EPOCH_MILLISECONDS and not math.isinf(value):
            return bounded(max(0.0, value / 1000 - clock))
        if value >= _EPOCH_SECONDS and not math.isinf(value):
            return bounded(max(0.0, value - clock))
    return bounded(value)


def bounded(seconds: float) -> float | None:
    """A believable wait: at most a day, None if it is negative, infinite or not a number."""
    return min(seconds, LONGEST_WAIT) if 0 <= seconds < math.inf else None


def clock_of(headers: Mapping[str, str], now: float) -> float:
    """The provider's clock, from its `date` header, else `now`. Epoch seconds."""
    moment = _moment(headers.get("date", ""))
    return now if moment is None else moment


def _moment(text: str) -> float | None:
    """Epoch seconds of an RFC 3339 or HTTP date. Without a zone it is UTC (RFC 9110, section 5.6.7)."""
    if not text or len(text) > _LONGEST_TEXT:
        return None
    try:
        moment = datetime.fromisoformat(text) if text[0].isdigit() else parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
