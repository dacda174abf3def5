"""Which error an answer is: the one place that decides, for every provider.

| answer                                                     | error            | billed               |
|------------------------------------------------------------|------------------|----------------------|
| 401, 402, 403; an account that is out of money or shut (any 4xx) | `AccountBlocked` | no             |
| larger than a limit or the context (400, 413, 422, 429, 500) | `TooLarge`      | no                   |
| 408, 409; 400 since the model wrote no valid JSON or tool call | `Interrupted` | no                   |
| 429; no capacity in a call's flex tier (429, 498, 503, 529) | `Throttled`     | no                   |
| 503, 529                                                   | `Unavailable`    | no                   |
| other 4xx in JSON; 401, 403 for one model or prompt        | `Refused`        | no                   |
| other 4xx in text, HTML or nothing; a 404 of a router      | `CallFailed`     | no                   |
| other 5xx; 1xx and 3xx, which no API sends                 | `CallFailed`     | if a gateway gave up |
| 2xx with an error in it                                    | by its own status | if that is a 5xx    |
| 2xx that is no answer: half a body, empty, other JSON      | `Broken`         | yes                  |
| 2xx with HTML, from something in between                   | `CallFailed`     | yes                  |
| none: the call lacks a key or an address (`not_set`)        | `AccountBlocked` | no                  |

Providers don't charge for an error status. But a gateway that stopped waiting (502, 504, Cloudflare's 520 and 524) may
have left a server working, which charges as for a client that hung up. A 2xx that reports its tokens is billed for
them, whatever else it contains: the error keeps them as its `usage`.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from limits.counting import Usage
from workers.providers import accounts
from workers.providers.ceiling import refused_ceiling as _ceiling_field
from workers.providers.error_body import ErrorBody, read_error, shown
from workers.providers.errors import (
    AccountBlocked,
    Broken,
    CallFailed,
    Interrupted,
    ProviderError,
    Refused,
    Throttled,
    TooLarge,
    Unavailable,
)
from workers.providers.headers import NO_LIMITS, RateLimits
from workers.providers.retry_after import believable, parse_retry_after

# Statuses of a gateway that stopped waiting.
_GATEWAY_GAVE_UP: Final = frozenset({499, 502, 504, 520, 524})

# A blocked account whose key is wrong.
_KEY_WORDS: Final = re.compile(
    r"api[ _-]?key\b[^\n.]{0,60}\b(?:expired|not valid|invalid|revoked)|expired_api_key", re.IGNORECASE
)

# A blocked account that the provider has suspended.
_SUSPENDED_WORDS: Final = re.compile(r"restricted|suspended|disabled|deactivated|terminated|banned", re.IGNORECASE)

# Codes and words of a request that is larger than a limit or the context.
_TOO_LARGE_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error", "request_too_large"})
_TOO_LARGE_WORDS: Final = re.compile(
    r"\brequest too large\b|context size has been exceeded|maximum context length|prompt is too long",
    re.IGNORECASE,
)
# OpenAI and Groq: "Limit 7000, Used 0, Requested ~12903". More than the limit will never fit.
_LIMIT_AND_REQUESTED: Final = re.compile(
    r"\bLimit:? (\d{1,15})\b[^\n]{0,80}?\bRequested:? ~?(\d{1,15})\b", re.IGNORECASE
)
# OpenAI and Groq: "on tokens per min (TPM)", "on requests per day (RPD)". Anthropic: "50,000 input tokens per minute".
_LIMIT_NAMED: Final = re.compile(r"\b(requests|(?:input |output )?tokens) per (min|day)", re.IGNORECASE)

# How quotas abbreviate those units.
_UNITS: Final = {"requests": "r", "tokens": "t", "input tokens": "it", "output tokens": "ot"}
# Azure: "have exceeded token rate limit of your current OpenAI S0 pricing tier". Both are counted by the minute.
_AZURE_NAMED: Final = re.compile(r"\bexceeded (?:the )?(token|call) rate limit\b", re.IGNORECASE)

# The dimensions of those units.
_OF_AZURE: Final = {"token": "tpm", "call": "rpm"}
# The code of OpenAI's 503 "Slow Down": unlike other 503s, it means that the rate rose too quickly
# (https://platform.openai.com/docs/guides/error-codes).
SLOW_DOWN: Final = "slow_down"
_SLOW_DOWN_WORDS: Final = re.compile(r"\bslow[ _]down\b", re.IGNORECASE)

# Statuses that providers give to requests that are too large.
_TOO_LARGE_STATUSES: Final = frozenset({400, 413, 422, 429, 500})

# Only these bodies are searched for a wait: any other may contain a model's answer or a prompt.
_STATES_WAIT: Final = frozenset({429, 503, 529})

# The model wrote JSON or a tool call that the provider could not read: Groq's codes, SambaNova's and Together's words.
_BADLY_WRITTEN_CODES: Final = frozenset({"json_validate_failed", "tool_use_failed"})
_BADLY_WRITTEN_WORDS: Final = re.compile(
    r"failed to (?:generate|produce|validate) (?:valid )?json|failed to call a function"
    r"|model (?:output|did not output|response|generated)\b[^\n]{0,40}\b(?:valid|invalid|malformed) (?:json|tool call)",
    re.IGNORECASE,
)

# A router without a route for the path, even in JSON: Kong, APISIX, Spring, FastAPI.
_NO_ROUTE_WORDS: Final = re.compile(
    r"(?:404 )?(?:page |route |path )?not found\.?|no route matched.{0,60}|no healthy upstream",
    re.IGNORECASE,
)

# How OpenAI refuses a call because its flex tier has no capacity, which says nothing about other tiers.
_TIER_CODES: Final = frozenset({"resource_unavailable"})
_TIER_WORDS: Final = re.compile(r"\s*(?:429 )?resource unavailable\b", re.IGNORECASE)

# Groq's status for the same.
_FLEX_CAPACITY: Final = 498

# The tier that a provider sheds first.
FLEX: Final = "flex"

# Anthropic: "Extra usage is required for long context requests."
_LONG_WORDS: Final = re.compile(r"\blong[- ]context\b|extra usage is required", re.IGNORECASE)


def classify(
    status: int,
    headers: Mapping[str, str],
    body: Any,
    *,
    provider: str,
    key: str,
    now: float,
    limits: RateLimits | None = None,
    request_id: str | None = None,
    usage: Usage | None = None,
    tier: Any = None,
) -> ProviderError:
    """The error that an answer is. The caller has already checked that a 2xx is no answer.

    `body` is the decoded JSON, or text. `headers` have names in lower case. `now` is the wall clock in epoch seconds.
    `key` is removed from the error's words. `usage` is the tokens that the answer reports. `tier` is the service tier
    that the call asked for.
    """
    error_body = read_error(body, key=key)
    within_success = status < HTTPStatus.MULTIPLE_CHOICES
    kind: type[ProviderError]
    judged = error_body.stated_status if within_success and error_body.stated_status else status
    if within_success and error_body.stated_status is None:
        kind, billed = CallFailed if _is_page(body) else Broken, True
    else:
        kind = _kind(judged, error_body)
        billed = judged in _GATEWAY_GAVE_UP or (within_success and judged >= HTTPStatus.INTERNAL_SERVER_ERROR)
    sheds = _sheds(kind, judged, error_body, limits, tier)
    kind = Throttled if sheds else kind
    waits = issubclass(kind, Throttled | Unavailable | CallFailed | Interrupted)
    dimension = _dimension(error_body.words) if kind is Throttled else ""
    wait = None
    if waits:
        searched = body if judged in _STATES_WAIT else None
        wait = believable(parse_retry_after(headers, searched, now=now, limits=limits), dimension, limits)
    return kind(
        error_body.words or _own_words(status, body),
        status=status,
        code=SLOW_DOWN if _is_too_quick(kind, error_body) else shown(error_body.code) or _own_code(status, body),
        retry_after=wait,
        limits=limits,
        request_id=request_id,
        billed=billed,
        advice=_advice(provider, status, error_body) if kind is AccountBlocked else "",
        dimension=dimension,
        usage=usage,
        certain=kind is AccountBlocked and accounts.is_certain(error_body),
        only_for="tier" if sheds else "size" if kind is Throttled and _LONG_WORDS.search(error_body.words) else "",
        ceiling_field=_ceiling_field(judged, error_body) if kind is Refused else "",
    )


def not_set(provider: str, missing: str, *, key: bool = False) -> AccountBlocked:
    """The error for a call that lacks something a person has to set: `missing` names it. `key`: it is the key."""
    error = AccountBlocked(
        missing,
        code="not_set",
        certain=True,
        advice=f"{missing}; set it where the workers of {provider} run, then `overnight limits --clear {provider}`",
    )
    if key:
        error.fingerprint = ""  # so any key counts as a new one
    return error


def _dimension(words: str) -> str:
    """The limit that a refusal names, '' if it names none or several."""
    named = {f"{_UNITS[units.lower()]}p{period[0].lower()}" for units, period in _LIMIT_NAMED.findall(words)}
    named |= {_OF_AZURE[kind.lower()] for kind in _AZURE_NAMED.findall(words)}
    return named.pop() if len(named) == 1 else ""


def _is_too_quick(kind: type[ProviderError], error_body: ErrorBody) -> bool:
    return kind is Unavailable and _SLOW_DOWN_WORDS.search(f"{error_body.code} {error_body.words}") is not None


def _kind(status: int, error_body: ErrorBody) -> type[ProviderError]:
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if refused and accounts.is_about_account(status, error_body):
        return AccountBlocked
    if status in _TOO_LARGE_STATUSES and _is_too_large(status, error_body):
        return TooLarge
    if status == HTTPStatus.BAD_REQUEST and _is_badly_written(error_body):
        return Interrupted
    match status:
        case 408 | 409:
            return Interrupted
        case 429:
            return Throttled
        case 503 | 529:
            return Unavailable
        case _ if refused and error_body.own and not _leads_nowhere(status, error_body):
            return Refused
        case _:
            return CallFailed


def _is_badly_written(error_body: ErrorBody) -> bool:
    return (
        error_body.generated
        or error_body.code in _BADLY_WRITTEN_CODES
        or bool(_BADLY_WRITTEN_WORDS.search(error_body.words))
    )


def _leads_nowhere(status: int, error_body: ErrorBody) -> bool:
    """Whether a router answered because it has no route."""
    return status == HTTPStatus.NOT_FOUND and not error_body.code and bool(_NO_ROUTE_WORDS.fullmatch(error_body.words))


def _sheds(kind: type[ProviderError], status: int, error_body: ErrorBody, limits: RateLimits | None, tier: Any) -> bool:
    """Whether the service tier has no capacity for the call. Other tiers may have.

    A flex call is shed first, so a refusal that names no limit and no used-up one is about its tier.
    """
    if status == _FLEX_CAPACITY:
        return True
    if kind is Throttled:
        if error_body.code in _TIER_CODES or _TIER_WORDS.match(error_body.words):
            return True
        used_up = any(level.remaining == 0 for _, level in (limits or NO_LIMITS).items())
        return tier == FLEX and not used_up and not _dimension(error_body.words)
    return tier == FLEX and kind is Unavailable and not _is_too_quick(kind, error_body)


def _is_too_large(status: int, error_body: ErrorBody) -> bool:
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or error_body.code in _TOO_LARGE_CODES:
        return True
    if _TOO_LARGE_WORDS.search(error_body.words):
        return True
    figures = _LIMIT_AND_REQUESTED.search(error_body.words)
    return figures is not None and int(figures[2]) > int(figures[1])


def _advice(provider: str, status: int, error_body: ErrorBody) -> str:
    then = f"then `overnight limits --clear {provider}`"
    if status == HTTPStatus.UNAUTHORIZED or _KEY_WORDS.search(f"{error_body.code} {error_body.words}"):
        return f"{provider} does not accept the key: set a valid one where api_key points, {then}"
    if _SUSPENDED_WORDS.search(f"{error_body.code} {error_body.words}"):
        return f"{provider} has suspended the account: settle that with the provider, {then}"
    if accounts.is_shut(error_body) or status == HTTPStatus.PAYMENT_REQUIRED:
        return f"{provider} has no credit or quota left: add some, or raise its spend limit, {then}"
    return f"{provider} forbids this to the key: allow it the model, the region and the network, {then}"


def _own_words(status: int, body: Any) -> str:
    if _is_page(body):
        return f"the provider answered {status} with HTML: a proxy or gateway stands in front of it"
    if body is None or body == "":
        return f"the provider answered {status} with an empty body"
    return f"the provider answered {status} without saying why"


def _is_page(body: Any) -> bool:
    return isinstance(body, str) and body.lstrip()[:1] == "<"


def _own_code(status: int, body: Any) -> str:
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return "empty_body" if body is None or body == "" else "broken_body"
    return f"http_{status}"
