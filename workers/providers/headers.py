"""What a provider's answer tells of its rate limits: one meaning for a dozen spellings.

| who            | headers                                                              | a reset is      |
|----------------|----------------------------------------------------------------------|-----------------|
| OpenAI, vLLM   | `x-ratelimit-{limit,remaining,reset}-{requests,tokens,project-tokens}` | `6m0s`, `20ms` |
| Azure          | the same, with -1 for none; `x-ratelimit-renewalperiod-*`            | seconds         |
| Groq           | the same, where `-requests` is a *day* and `-tokens` a minute        | `2m59.56s`      |
| Mistral        | `x-ratelimit-*-{tokens,req}-minute`, `{x-,}ratelimitbysize-*`        | seconds         |
| Cerebras       | `x-ratelimit-*-{requests-day,tokens-minute}`                         | seconds         |
| Anthropic      | `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-*` | RFC 3339        |
| OpenRouter     | `x-ratelimit-{limit,remaining,reset}`                                | epoch ms        |
| IETF draft-11  | `ratelimit: "default";r=50;t=30`, `ratelimit-policy: …;q=100;w=60`   | seconds         |

Monthly figures have no dimension here and are left out. A value that is empty, negative, infinite, not a
number or beyond 2**53 is taken as not said. Nothing raises: these texts come from outside.
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

# A wait is believed up to a day, the longest window that a provider counts in (requests and tokens a day).
# Longer ones are cut to it: the next answer after that day tells anew.
LONGEST_WAIT: Final = 86_400.0
_LARGEST_COUNT: Final = 2**53  # exact in Lua's and JSON's numbers
_LONGEST_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Level:
    """One dimension as the provider counts it: units of a window, units left, seconds until it is full.

    `guessed`: no header says how long the window is.
    """

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What an answer said of each dimension; None where it said nothing. False where all are None."""

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
    """Every header whose name alone tells the dimension."""
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
    # Azure has been seen to spell this one differently: github.com/openai/openai-python/issues/937.
    names["x-rate-limit-reset-tokens"] = ("tpm", "reset")
    return names


_NAMED: Final = _spellings()
_WINDOWLESS: Final = frozenset({"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"})


def parse_limits(headers: Mapping[str, str], *, now: float, requests_are_daily: bool = False) -> RateLimits:
    """The levels that `headers` (names in lower case) tell.

    `now` is the wall clock in epoch seconds, for resets told as a time; the answer's own `date` header is
    preferred, which compares the provider's clock with itself. `requests_are_daily` is Groq's way to count.
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
    """The most restrictive of what was said: OpenAI counts tokens of the organisation and of the project."""
    limits = [limit for text in texts.get("limit", ()) if (limit := count(text)) is not None]
    remaining = [left for text in texts.get("remaining", ()) if (left := count(text)) is not None]
    resets = [wait for text in texts.get("reset", ()) if (wait := seconds_until(text, clock)) is not None]
    if not limits and not remaining:
        return None
    return Level(
        # A limit of 0 beside requests that are answered is Azure's way to say that there is none.
        limit=min((value for value in limits if value > 0), default=None),
        remaining=min(remaining, default=None),
        reset=max(resets, default=None),
    )


_ITEM: Final = re.compile(r";\s{0,3}([a-z]{1,2})=(\d{1,15})")
_MINUTE: Final = 60.0


def _windowless(headers: Mapping[str, str], clock: float) -> dict[Dimension, Level | None]:
    """Headers that name no window: a reset within a minute means a window of a minute, else of a day."""
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
        level = replace(level, limit=round(level.limit * _MINUTE / window))  # of a second, say
    return {"rpm" if window is None or window <= _MINUTE else "rpd": level}


def count(text: str) -> int | None:
    """A number of requests or tokens, or None where the text says none."""
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
# Numbers from here on are epoch seconds, and from the second on epoch milliseconds: no wait is 31 years long.
_EPOCH_SECONDS: Final = 1e9
_EPOCH_MILLISECONDS: Final = 1e11


def seconds_until(text: str, clock: float) -> float | None:
    """A wait in seconds, however it is written: `12`, `1.5`, `6m0s`, `20ms`, a date, epoch seconds or ms.

    A date is one of RFC 3339 or of HTTP. A time that has passed is 0; anything longer than a day is a day;
    None where the text is none of these.
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
    """A wait that can be believed: None where it is negative, infinite or no number; at most a day."""
    return min(seconds, LONGEST_WAIT) if 0 <= seconds < math.inf else None


def clock_of(headers: Mapping[str, str], now: float) -> float:
    """The provider's own clock (its `date` header), else `now`."""
    moment = _moment(headers.get("date", ""))
    return now if moment is None else moment


def _moment(text: str) -> float | None:
    """Epoch seconds of an RFC 3339 or HTTP date; a date without a zone is UTC (RFC 9110, section 5.6.7)."""
    if not text or len(text) > _LONGEST_TEXT:
        return None
    try:
        moment = datetime.fromisoformat(text) if text[0].isdigit() else parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
