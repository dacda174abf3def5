"""Reads a JSON body."""

from typing import Any, Final

import orjson
from starlette.requests import Request

from tasks.server.errors import bad_request, too_large

#: The largest body of a request that contains no prompts, in bytes.
SMALL: Final = 1 << 20


async def read_json(request: Request, limit: int = SMALL) -> dict[str, Any]:
    """The JSON object in the body. ApiError 413 if it has more than `limit` bytes, 400 if it is not an object."""
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limit:
        raise too_large(limit)
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > limit:
            raise too_large(limit)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise bad_request(f"The body is not JSON: {exc.msg} (line {exc.lineno}, column {exc.colno}).") from None
    if not isinstance(value, dict):
        raise bad_request("The body must be a JSON object.")
    return value
