"""Which failure an answer is: the one place that decides, for every provider.

| answer                                                     | error            | billed               |
|------------------------------------------------------------|------------------|----------------------|
| 401, 402, 403; quota or spend cap used up (400, 403, 429)   | `AccountBlocked` | no                   |
| larger than a limit or the context (400, 413, 422, 429, 500) | `TooLarge`      | no                   |
| 408, 409                                                   | `Interrupted`    | no                   |
| 429                                                        | `Throttled`      | no                   |
| 498 (Groq's flex capacity), 503, 529                       | `Unavailable`    | no                   |
| other 4xx; 403 for the prompt's content (OpenRouter)       | `Refused`        | no                   |
| other 5xx; 1xx and 3xx, which no API sends                 | `CallFailed`     | if a gateway gave up |
| 2xx with an error in it                                    | by its own status | where that is 5xx   |
| 2xx that is no answer: HTML, half a body, empty, other JSON | `CallFailed`    | yes                  |
| none: what the call needs is not there (`not_set`)          | `AccountBlocked` | no                  |

Providers do not charge for what they answer with an error status. A gateway that stopped waiting (502, 504,
Cloudflare's 520 and 524) may have left a server working behind it, which is charged like a client that hung
up. A 2xx that tells its tokens tells its bill, whatever else is in it: the error keeps them as its `usage`.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from limits.counting import Usage
from workers.providers.complaint import Complaint, read_complaint
from workers.providers.errors import (
    AccountBlocked,
    CallFailed,
    Interrupted,
    ProviderError,
    Refused,
    Throttled,
    TooLarge,
    Unavailable,
)
from workers.providers.headers import RateLimits
from workers.providers.retry_after import parse_retry_after

_GATEWAY_GAVE_UP: Final = frozenset({499, 502, 504, 520, 524})

# Words that mean a person must act, whatever the status: OpenAI's error codes, Anthropic's types.
_BLOCKED_CODES: Final = frozenset({
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "billing_error",
    "account_deactivated",
    "access_terminated",
    "enforced_spend_limit_reached",
    "spend_limit_exceeded",
})  # fmt: skip
# Anthropic tells a used-up balance or spend cap with a 400 `invalid_request_error` or a 429
# `rate_limit_error`; only the words differ from an ordinary one. Gemini says "exceeded your current quota,
# please check your plan" of every 429, so that phrase means nothing here; a limit of 0 does.
_BLOCKED_WORDS: Final = re.compile(
    r"credit balance is too low|specified (?:API|workspace) usage limits|spend(?:ing)? (?:limit|cap)"
    r"|insufficient (?:balance|credits|funds)|requires more credits"
    r"|Quota exceeded for [^\n]{0,200}?\blimit: 0\b",
    re.IGNORECASE,
)
_BLOCKED_STATUSES: Final = frozenset({400, 403, 429})

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
# OpenAI's 503 "Slow Down", beside the one of an overloaded engine: the rate rose too quickly
# (https://platform.openai.com/docs/guides/error-codes).
SLOW_DOWN: Final = "slow_down"
_SLOW_DOWN_WORDS: Final = re.compile(r"\bslow[ _]down\b", re.IGNORECASE)
_TOO_LARGE_STATUSES: Final = frozenset({400, 413, 422, 429, 500})


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
    if within_success and complaint.told_status is None:
        kind, billed = CallFailed, True
    else:
        judged = complaint.told_status if within_success and complaint.told_status else status
        kind = _kind(judged, complaint)
        billed = judged in _GATEWAY_GAVE_UP or (within_success and judged >= HTTPStatus.INTERNAL_SERVER_ERROR)
    waits = issubclass(kind, Throttled | Unavailable | CallFailed | Interrupted)
    return kind(
        complaint.words or _own_words(status, body),
        status=status,
        code=SLOW_DOWN if _is_too_quick(kind, complaint) else complaint.code or _own_code(status, body),
        retry_after=parse_retry_after(headers, body, now=now, limits=limits) if waits else None,
        limits=limits,
        request_id=request_id,
        billed=billed,
        advice=_advice(provider, status, complaint) if kind is AccountBlocked else "",
        dimension=_dimension(complaint.words) if kind is Throttled else "",
        usage=usage,
    )


def not_set(provider: str, missing: str) -> AccountBlocked:
    """What a call needs, a key or an address, is not there: `missing` names it, and a person has to set it."""
    return AccountBlocked(
        missing,
        code="not_set",
        advice=f"{missing}; set it where the workers of {provider} run, then `overnight limits --clear {provider}`",
    )


def _dimension(words: str) -> str:
    """The one limit that a refusal names, '' where it names none or several."""
    named = {f"{_UNITS[units.lower()]}p{period[0].lower()}" for units, period in _LIMIT_NAMED.findall(words)}
    return named.pop() if len(named) == 1 else ""


def _is_too_quick(kind: type[ProviderError], complaint: Complaint) -> bool:
    return kind is Unavailable and _SLOW_DOWN_WORDS.search(f"{complaint.code} {complaint.words}") is not None


def _kind(status: int, complaint: Complaint) -> type[ProviderError]:
    if status in _BLOCKED_STATUSES and _is_blocked(complaint):
        return AccountBlocked
    if status in _TOO_LARGE_STATUSES and _is_too_large(status, complaint):
        return TooLarge
    match status:
        case 403 if complaint.flagged:
            return Refused
        case 401 | 402 | 403:
            return AccountBlocked
        case 408 | 409:
            return Interrupted
        case 429:
            return Throttled
        case 498 | 503 | 529:
            return Unavailable
        case _ if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return Refused
        case _:
            return CallFailed


def _is_blocked(complaint: Complaint) -> bool:
    return complaint.code.lower() in _BLOCKED_CODES or bool(_BLOCKED_WORDS.search(complaint.words))


def _is_too_large(status: int, complaint: Complaint) -> bool:
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or complaint.code in _TOO_LARGE_CODES:
        return True
    if _TOO_LARGE_WORDS.search(complaint.words):
        return True
    told = _LIMIT_AND_REQUESTED.search(complaint.words)
    return told is not None and int(told[2]) > int(told[1])


def _advice(provider: str, status: int, complaint: Complaint) -> str:
    then = f"then `overnight limits --clear {provider}`"
    if _is_blocked(complaint) or status == HTTPStatus.PAYMENT_REQUIRED:
        return f"{provider} has no credit or quota left: add some, or raise its spend limit, {then}"
    if status == HTTPStatus.UNAUTHORIZED:
        return f"{provider} does not accept the key: set a valid one where api_key points, {then}"
    return f"{provider} forbids this to the key: allow it the model, the region and the network, {then}"


def _own_words(status: int, body: Any) -> str:
    if isinstance(body, str) and body.lstrip()[:1] == "<":
        return f"the provider answered {status} with HTML: a proxy or gateway stands in front of it"
    if body is None or body == "":
        return f"the provider answered {status} with an empty body"
    return f"the provider answered {status} without saying why"


def _own_code(status: int, body: Any) -> str:
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return "empty_body" if body is None or body == "" else "broken_body"
    return f"http_{status}"
