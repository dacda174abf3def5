"""Pages of a list: `limit` objects after the one whose id is `after`, as OpenAI's SDKs ask for them."""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import redis
from starlette.requests import Request

from tasks.server.errors import bad_request

T = TypeVar("T")

#: Ids that are read at once.
_STEP: Final = 200


def limit_of(request: Request, default: int, largest: int) -> int:
    """The `limit` of a request, from 1 to `largest`."""
    text = request.query_params.get("limit", "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= largest):  # noqa: PLR2004 - any longer is too large
        raise bad_request(f"limit must be a whole number from 1 to {largest:,}.", "limit")
    return int(text)


def page(
    client: redis.Redis,
    key: str,
    read: Callable[[list[str]], Iterable[T | None]],
    *,
    after: str | None,
    limit: int,
    newest_first: bool = True,
) -> tuple[list[T], bool]:
    """Up to `limit` objects of a sorted set of ids, and whether there are more. `read` returns None for hidden ones."""
    start = 0
    if after:
        rank: Any = client.zrevrank(key, after) if newest_first else client.zrank(key, after)
        if rank is None:
            raise bad_request("after names no object of this list.", "after")
        start = rank + 1
    found: list[T] = []
    while len(found) <= limit:
        ids: Any = client.zrange(key, start, start + _STEP - 1, desc=newest_first)
        if not ids:
            break
        start += len(ids)
        found += [each for each in read([name.decode() for name in ids]) if each is not None]
    return found[:limit], len(found) > limit


def listed(objects: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """OpenAI's list object."""
    return {
        "object": "list",
        "data": objects,
        "first_id": objects[0]["id"] if objects else None,
        "last_id": objects[-1]["id"] if objects else None,
        "has_more": more,
    }
