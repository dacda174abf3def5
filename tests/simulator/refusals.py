"""Errors as each provider words them, and the wait of a 429 in every form that is in use."""

import math
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from tests.simulator.quota import Quota

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OPENAI_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded", 503: "slow_down"}
_NAMES = {"rpm": "requests", "tpm": "tokens", "itpm": "input-tokens", "otpm": "output-tokens"}


def error_body(api: str, status: int, words: str, code: str | None = None) -> dict[str, Any]:
    if api == "anthropic":
        kind = _ANTHROPIC_TYPES.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_simulated"}
    if api == "azure":
        return {"error": {"code": code or str(status), "message": words}}
    return {
        "error": {
            "message": words,
            "type": "tokens" if status == 429 else "invalid_request_error" if status < 500 else "server_error",
            "param": None,
            "code": code or _OPENAI_CODES.get(status),
        }
    }


def throttled(
    form: str, api: str, wait: float, denied_by: str, wall: float
) -> tuple[dict[str, str], dict[str, Any], float | None]:
    """Headers, body, and the wait that they state, in seconds, never less than `wait`."""
    words = f"Rate limit reached on {denied_by}."
    headers: dict[str, str] = {}
    body = error_body(api, 429, words, "rate_limit_exceeded" if api == "openai" else None)
    match form:
        case "seconds":
            told: float | None = float(max(1, math.ceil(wait)))
            headers["retry-after"] = str(int(told or 0))
        case "fraction":
            told = math.ceil(wait * 1000) / 1000
            headers["retry-after"] = f"{told:.3f}"
        case "date":
            until = math.ceil(wall + wait)
            told = until - wall
            headers["retry-after"] = format_datetime(datetime.fromtimestamp(until, UTC), usegmt=True)
            headers["date"] = format_datetime(datetime.fromtimestamp(math.floor(wall), UTC), usegmt=True)
        case "ms":
            milliseconds = math.ceil(wait * 1000)
            told = milliseconds / 1000
            headers["retry-after-ms"] = str(milliseconds)
        case "gemini":
            told = wait + 0.001
            body = {
                "error": {
                    "code": 429,
                    "message": words,
                    "status": "RESOURCE_EXHAUSTED",
                    "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{told:.9f}s"}],
                }
            }
        case "text":
            told = math.ceil(wait * 1000) / 1000
            body["error"]["message"] = f"{words} Please try again in {duration(told)}."
        case "azure-text":
            told = float(max(1, math.ceil(wait)))
            body["error"]["message"] = f"{words} Please retry after {told:.0f} seconds."
        case _:
            told = None
    return headers, body, told


def duration(seconds: float) -> str:
    """As OpenAI writes it: `20ms`, `1.234s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.6g}s" if minutes else f"{rest:.3f}s"


def rate_headers(api: str, quota: Quota, now: float, wall: float) -> dict[str, str]:
    """What remains, as the provider's headers say it."""
    headers = {}
    for dimension, counter in quota.counters.items():
        name, remaining, reset = _NAMES[dimension], math.floor(counter.remaining(now)), counter.reset(now)
        if api == "anthropic":
            prefix = f"anthropic-ratelimit-{name}"
            headers[f"{prefix}-limit"] = f"{counter.limit:.0f}"
            headers[f"{prefix}-remaining"] = str(remaining)
            headers[f"{prefix}-reset"] = datetime.fromtimestamp(math.ceil(wall + reset), UTC).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            )
        elif dimension in {"rpm", "tpm"}:
            headers[f"x-ratelimit-limit-{name}"] = f"{counter.limit:.0f}"
            headers[f"x-ratelimit-remaining-{name}"] = str(remaining)
            headers[f"x-ratelimit-reset-{name}"] = str(math.ceil(reset)) if api == "azure" else duration(reset)
    return headers
