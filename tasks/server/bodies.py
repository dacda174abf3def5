"""Reads a JSON body."""

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.requests import Request

from tasks.server.errors import ApiError, bad_request, too_large, too_many
from tasks.server.resources import client_of, resources

if TYPE_CHECKING:
    from starlette.types import Scope

#: Seconds after which a client with too many bodies in memory may try again.
AGAIN: Final = 1.0

#: Commas and opening brackets of a body: about the number of its values. Each takes up to 200 bytes of memory, and
#: reading them holds up all other requests. Texts contain commas, too: the longest prompts have some hundred thousand.
MOST_VALUES: Final = 2_000_000

#: The largest body of a request that contains no prompts, in bytes.
SMALL: Final = 1 << 20

#: Bytes of the bodies of requests in flight, by client.
_held: Counter[str] = Counter()

#: The field of a request's scope with the bytes of its body.
_SIZE: Final = "overnight.body_size"


def release(scope: "Scope") -> None:
    """Count the body of a request that has ended no longer."""
    client = scope.get("overnight.client")
    if client is not None:
        _held[client.name] -= scope.pop(_SIZE, 0)


def _hold(request: Request, size: int) -> None:
    """Count more bytes of a body. ApiError 429 if its client holds too many already."""
    name, most = client_of(request).name, resources(request).settings.server.max_bodies_mb * 1_000_000
    if _held[name] + size > most:
        raise too_many(f"The bodies of your requests in flight have more than {most:,} bytes.", AGAIN)
    _held[name] += size
    request.scope[_SIZE] = request.scope.get(_SIZE, 0) + size


async def read_json(request: Request, limit: int = SMALL) -> dict[str, Any]:
    """The JSON object in the body. ApiError 413 if it is larger than `limit` bytes, 400 if it is no object."""
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limit:
        raise too_large(limit)
    raw = bytearray()
    async for chunk in request.stream():
        if len(raw) + len(chunk) > limit:
            raise too_large(limit)
        _hold(request, len(chunk))
        raw += chunk
    if sum(map(raw.count, b",[{")) > MOST_VALUES:
        raise ApiError(413, f"The body has more than {MOST_VALUES:,} values.", code="request_too_large")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise bad_request(f"The body is not JSON: {exc.msg} (line {exc.lineno}, column {exc.colno}).") from None
    if not isinstance(value, dict):
        raise bad_request("The body must be a JSON object.")
    return value
