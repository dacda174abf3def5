"""Errors of requests: OpenAI's error object, with the status, type and code that OpenAI uses.

Code that serves a request raises an ApiError. requests.py turns it into a response, and so it does with errors of Redis
and of the storage.
"""

import math
from http import HTTPStatus
from typing import Any, Final

import orjson
import redis
from starlette.exceptions import HTTPException
from starlette.responses import Response

from limits.errors import LimitsError, ServerUnavailable
from tasks.jobs.storage import StorageError
from workers.providers.endpoints import MESSAGES

#: Seconds after which a client may try again while Redis or the storage is away.
AWAY_RETRY_AFTER = 5.0

#: The status of a conflict. OpenAI's SDKs retry it unless a header says otherwise.
CONFLICT: Final = 409

#: OpenAI's `type` for each status.
_TYPES = {402: "insufficient_quota", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}


class ApiError(Exception):
    """A request failed. `param` names the wrong field; `retry_after` is in seconds."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind or _TYPES.get(status, "invalid_request_error")
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers that say whether and when to retry. OpenAI's SDKs read the first two."""
        if self.status == CONFLICT:
            return {"x-should-retry": "false"}
        if self.retry_after is None:
            return {}
        milliseconds = max(1, math.ceil(self.retry_after * 1000))
        return {"retry-after-ms": str(milliseconds), "retry-after": str(math.ceil(milliseconds / 1000))}


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request is wrong."""
    return ApiError(400, message, param=param, code=code)


def wrong_key() -> ApiError:
    """401: the request has no key, or an unknown one."""
    return ApiError(
        401,
        "Incorrect or missing API key: send the key of one of the [clients] in overnight.toml as "
        "'Authorization: Bearer KEY'.",
        code="invalid_api_key",
    )


def budget_spent(message: str) -> ApiError:
    """402: the budget cannot pay for the request."""
    return ApiError(402, message, code="insufficient_quota")


def not_found(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """404: it does not exist, or belongs to another client."""
    return ApiError(404, message, param=param, code=code)


def conflict(message: str, param: str | None = None) -> ApiError:
    """409: the request contradicts the current state."""
    return ApiError(CONFLICT, message, param=param, code="conflict")


def too_large(limit: int) -> ApiError:
    """413: the body has more than `limit` bytes."""
    return ApiError(413, f"The request is larger than the limit of {limit:,} bytes.", code="request_too_large")


def too_many(message: str, retry_after: float) -> ApiError:
    """429: the request cannot be served in time."""
    return ApiError(429, message, code="rate_limit_exceeded", retry_after=retry_after)


def unavailable(message: str, retry_after: float = AWAY_RETRY_AFTER) -> ApiError:
    """503: Redis, the storage or a provider's account is unavailable."""
    return ApiError(503, message, code="service_unavailable", retry_after=retry_after)


def as_api_error(exc: Exception) -> ApiError | None:
    """The error to send for an exception; None if the exception is a bug."""
    if isinstance(exc, ApiError):
        return exc
    if isinstance(exc, ServerUnavailable | redis.ConnectionError | redis.TimeoutError):
        return unavailable("The Redis server is unreachable; try again soon.")
    if isinstance(exc, redis.RedisError | LimitsError):
        return unavailable("The Redis server refuses a command; try again soon.")
    if isinstance(exc, StorageError):
        if exc.missing:
            return not_found("The content of this file is gone.")
        return unavailable("The storage cannot be used at the moment; try again soon.")
    if isinstance(exc, HTTPException):
        words = {404: "There is no such endpoint.", 405: "This endpoint does not take this method."}
        return ApiError(exc.status_code, words.get(exc.status_code, exc.detail), code="unknown_url")
    return None


#: Anthropic's `type` for each status. The rest are "invalid_request_error" (4xx) or "api_error" (5xx).
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def anthropic_body(error: ApiError) -> dict[str, Any]:
    """Anthropic's error object."""
    usual = "invalid_request_error" if error.status < HTTPStatus.INTERNAL_SERVER_ERROR else "api_error"
    return {
        "type": "error",
        "error": {"type": _ANTHROPIC_TYPES.get(error.status, usual), "message": error.message},
    }


def response(error: ApiError, path: str = "") -> Response:
    """The error as a response: in Anthropic's form for its endpoint, else in OpenAI's."""
    body = anthropic_body(error) if path.startswith(MESSAGES) else error.body
    return Response(orjson.dumps(body), error.status, error.headers, "application/json")
