"""A message on the wire, as kombu's virtual transports write it, and its delivery tag.

transport/lua/lib/message.lua puts a mark at the start of a message: it was delivered before, and how many workers died
while they had it.
"""

import re
import time
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from kombu.utils.json import loads

from workers.transport.envelope import DEATHS
from workers.transport.queues import SEPARATOR


class UnreadableError(ValueError):
    """A message that is not in kombu's format."""


_DEATHS: Final = re.compile(rb'\{"redelivered": true, "deaths": (\d{1,9}), ')


def deaths_of(raw: bytes) -> int:
    """How many workers died while they had this message."""
    found = _DEATHS.match(raw)
    return int(found[1]) if found else 0


def with_deaths(text: str, deaths: int) -> str:
    """Add the count of deaths to a rewritten message."""
    return f'{{"redelivered": true, "deaths": {deaths}, {text[1:]}' if deaths else text


def parse(raw: bytes, tag: str, queue: str) -> dict[str, Any]:
    """Parse a message into what kombu delivers. Raises ValueError if it is not in kombu's format."""
    # kombu marks values that JSON lacks. orjson parses messages without them in a fifth of the time.
    payload = loads(raw.decode()) if b"__type__" in raw else orjson.loads(raw)
    if not isinstance(payload, dict):
        raise UnreadableError("it is not a JSON object")
    headers, properties = payload.get("headers") or {}, payload.get("properties")
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise UnreadableError("its headers or properties are not a JSON object")
    # Its queue decides its workflow, whatever its own delivery_info says.
    info: dict[str, Any] = {"exchange": "", "routing_key": queue}
    if payload.pop("redelivered", False):
        headers["redelivered"] = info["redelivered"] = True
    payload.pop("deaths", None)
    payload["headers"] = headers
    payload["properties"] = {**properties, "delivery_tag": tag, "delivery_info": info, DEATHS: deaths_of(raw)}
    return payload


def queue_of(tag: str) -> str:
    """The queue that a claimed message came from."""
    return tag.partition("@")[2].partition(SEPARATOR)[0]


def seconds_until_due(message: dict[str, Any]) -> float:
    """Seconds until a message is due; 0.0 or less if it is due, has no ETA, or has one that cannot be parsed."""
    headers = message.get("headers")
    eta = headers.get("eta") if isinstance(headers, dict) else None
    if not isinstance(eta, str):
        return 0.0
    try:
        when = datetime.fromisoformat(eta)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
