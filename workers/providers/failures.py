"""Which failure an answer is: the one place that decides, for every provider.

| answer                                                     | error            | billed               |
|------------------------------------------------------------|------------------|----------------------|
| 401, 402, 403; an account that is out of money or shut (any 4xx) | `AccountBlocked` | no             |
| larger than a limit or the context (400, 413, 422, 429, 500) | `TooLarge`      | no                   |
| 408, 409; 400 since the model wrote no valid JSON or tool call | `Interrupted` | no                   |
| 429                                                        | `Throttled`      | no                   |
| 498 (Groq's flex capacity), 503, 529                       | `Unavailable`    | no                   |
| other 4xx in JSON; 401, 403 for one model or prompt        | `Refused`        | no                   |
| other 4xx in text, HTML or nothing; a 404 of a router      | `CallFailed`     | no                   |
| other 5xx; 1xx and 3xx, which no API sends                 | `CallFailed`     | if a gateway gave up |
| 2xx with an error in it                                    | by its own status | where that is 5xx   |
| 2xx that is no answer: half a body, empty, other JSON      | `Broken`         | yes                  |
| 2xx with HTML, which something in between has sent         | `CallFailed`     | yes                  |
| none: what the call needs is not there (`not_set`)          | `AccountBlocked` | no                  |

Providers do not charge for what they answer with an error status. A gateway that stopped waiting (502, 504,
Cloudflare's 520 and 524) may have left a server working behind it, which is charged like a client that hung
up. A 2xx that tells its tokens tells its bill, whatever else is in it: the error keeps them as its `usage`.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Literal

from limits.counting import Usage
from workers.providers import accounts
from workers.providers.ceiling import refused_ceiling as _ceiling_field
from workers.providers.error_body import Complaint, read_complaint, shown
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
from workers.providers.headers import RateLimits
from workers.providers.retry_after import believable, parse_retry_after

_GATEWAY_GAVE_UP: Final = frozenset({499, 502, 504, 520, 524})

# Which advice helps with a blocked account.
_KEY_WORDS: Final = re.compile(
    r"api[ _-]?key\b[^\n.]{0,60}\b(?:expired|not valid|invalid|revoked)|expired_api_key", re.IGNORECASE
)
_SUSPENDED_WORDS: Final = re.compile(r"restricted|suspended|disabled|deactivated|terminated|banned", re.IGNORECASE)

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
_UNITS: Final = {"requests": "r", "tokens": "t", "input tokens": "it", "output tokens": "ot"}
# Azure: "have exceeded token rate limit of your current OpenAI S0 pricing tier". Both are counted by the minute.
_AZURE_NAMED: Final = re.compile(r"\bexceeded (?:the )?(token|call) rate limit\b", re.IGNORECASE)
_OF_AZURE: Final = {"token": "tpm", "call": "rpm"}
# OpenAI's 503 "Slow Down", beside the one of an overloaded engine: the rate rose too quickly
# (https://platform.openai.com/docs/guides/error-codes).
SLOW_DOWN: Final = "slow_down"
_SLOW_DOWN_WORDS: Final = re.compile(r"\bslow[ _]down\b", re.IGNORECASE)
_TOO_LARGE_STATUSES: Final = frozenset({400, 413, 422, 429, 500})

# Error bodies of these alone may tell a wait: any other body can hold a model's answer or a prompt.
_TELLS_WAIT: Final = frozenset({429, 503, 529})

# The model wrote no JSON or tool call that the provider could read: Groq's codes; SambaNova's and Together's words.
_BADLY_WRITTEN_CODES: Final = frozenset({"json_validate_failed", "tool_use_failed"})
_BADLY_WRITTEN_WORDS: Final = re.compile(
    r"failed to (?:generate|produce|validate) (?:valid )?json|failed to call a function"
    r"|model (?:output|did not output|response|generated)\b[^\n]{0,40}\b(?:valid|invalid|malformed) (?:json|tool call)",
    re.IGNORECASE,
)

# What a router says that leads nowhere, in JSON too: Kong, APISIX, Spring, FastAPI behind a wrong path.
_NO_ROUTE_WORDS: Final = re.compile(
    r"(?:404 )?(?:page |route |path )?not found\.?|no route matched.{0,60}|no healthy upstream",
    re.IGNORECASE,
)

# OpenAI: the flex tier has no capacity, which says nothing about other tiers.
_TIER_CODES: Final = frozenset({"resource_unavailable"})
_FLEX_CAPACITY: Final = 498
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
) -> ProviderError:
    """The error that an answer is.

    `body` is the decoded JSON, or the text where it is none. For a 2xx the caller has found that it is no
    answer. `headers` have names in lower case; `now` is the wall clock in epoch seconds. `key` is what must
    not appear in the error's words. `usage` is what the answer tells of its tokens.
    """
    complaint = read_complaint(body, key=key)
    within_success = status < HTTPStatus.MULTIPLE_CHOICES
    kind: type[ProviderError]
    judged = complaint.told_status if within_success and complaint.told_status else status
    if within_success and complaint.told_status is None:
        kind, billed = CallFailed if _is_page(body) else Broken, True
    else:
        kind = _kind(judged, complaint)
        billed = judged in _GATEWAY_GAVE_UP or (within_success and judged >= HTTPStatus.INTERNAL_SERVER_ERROR)
    waits = issubclass(kind, Throttled | Unavailable | CallFailed | Interrupted)
    dimension = _dimension(complaint.words) if kind is Throttled else ""
    wait = None
    if waits:
        tells = body if judged in _TELLS_WAIT else None
        wait = believable(parse_retry_after(headers, tells, now=now, limits=limits), dimension, limits)
    return kind(
        complaint.words or _own_words(status, body),
        status=status,
        code=SLOW_DOWN if _is_too_quick(kind, complaint) else shown(complaint.code) or _own_code(status, body),
        retry_after=wait,
        limits=limits,
        request_id=request_id,
        billed=billed,
        advice=_advice(provider, status, complaint) if kind is AccountBlocked else "",
        dimension=dimension,
        usage=usage,
        certain=kind is AccountBlocked and accounts.is_certain(complaint),
        only_for=_only_for(kind, judged, complaint),
        ceiling_field=_ceiling_field(judged, complaint) if kind is Refused else "",
    )


def not_set(provider: str, missing: str, *, key: bool = False) -> AccountBlocked:
    """What a call needs is not there: `missing` names it, and a person has to set it. `key`: it is the key."""
    error = AccountBlocked(
        missing,
        code="not_set",
        certain=True,
        advice=f"{missing}; set it where the workers of {provider} run, then `overnight limits --clear {provider}`",
    )
    if key:
        error.fingerprint = ""  # any key that is there later is another one
    return error


def _dimension(words: str) -> str:
    """The one limit that a refusal names, '' where it names none or several."""
    named = {f"{_UNITS[units.lower()]}p{period[0].lower()}" for units, period in _LIMIT_NAMED.findall(words)}
    named |= {_OF_AZURE[kind.lower()] for kind in _AZURE_NAMED.findall(words)}
    return named.pop() if len(named) == 1 else ""


def _is_too_quick(kind: type[ProviderError], complaint: Complaint) -> bool:
    return kind is Unavailable and _SLOW_DOWN_WORDS.search(f"{complaint.code} {complaint.words}") is not None


def _kind(status: int, complaint: Complaint) -> type[ProviderError]:
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if refused and accounts.is_about_account(status, complaint):
        return AccountBlocked
    if status in _TOO_LARGE_STATUSES and _is_too_large(status, complaint):
        return TooLarge
    if status == HTTPStatus.BAD_REQUEST and _is_badly_written(complaint):
        return Interrupted
    match status:
        case 408 | 409:
            return Interrupted
        case 429:
            return Throttled
        case 498 | 503 | 529:
            return Unavailable
        case _ if refused and complaint.own and not _leads_nowhere(status, complaint):
            return Refused
        case _:
            return CallFailed


def _is_badly_written(complaint: Complaint) -> bool:
    return (
        complaint.generated
        or complaint.code in _BADLY_WRITTEN_CODES
        or bool(_BADLY_WRITTEN_WORDS.search(complaint.words))
    )


def _leads_nowhere(status: int, complaint: Complaint) -> bool:
    """Whether a router answered, since what it routes to is away or not there."""
    return status == HTTPStatus.NOT_FOUND and not complaint.code and bool(_NO_ROUTE_WORDS.fullmatch(complaint.words))


def _only_for(kind: type[ProviderError], status: int, complaint: Complaint) -> Literal["", "tier", "size"]:
    """Which other calls a refusal says nothing about: those of other tiers, or shorter ones."""
    if status == _FLEX_CAPACITY or (kind is Throttled and complaint.code in _TIER_CODES):
        return "tier"
    return "size" if kind is Throttled and _LONG_WORDS.search(complaint.words) else ""


def _is_too_large(status: int, complaint: Complaint) -> bool:
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or complaint.code in _TOO_LARGE_CODES:
        return True
    if _TOO_LARGE_WORDS.search(complaint.words):
        return True
    told = _LIMIT_AND_REQUESTED.search(complaint.words)
    return told is not None and int(told[2]) > int(told[1])


def _advice(provider: str, status: int, complaint: Complaint) -> str:
    then = f"then `overnight limits --clear {provider}`"
    if status == HTTPStatus.UNAUTHORIZED or _KEY_WORDS.search(f"{complaint.code} {complaint.words}"):
        return f"{provider} does not accept the key: set a valid one where api_key points, {then}"
    if _SUSPENDED_WORDS.search(f"{complaint.code} {complaint.words}"):
        return f"{provider} has suspended the account: settle that with the provider, {then}"
    if accounts.is_shut(complaint) or status == HTTPStatus.PAYMENT_REQUIRED:
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
