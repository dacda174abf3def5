"""A message on the wire, as kombu's virtual transports write it, and the tag that it is claimed under.

Before all else of a message stands how many workers have ended with it, as transport/lua/lib/message.lua writes it.
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
    """A message that is not one of kombu's."""


_DEATHS: Final = re.compile(rb'\{"redelivered": true, "deaths": (\d{1,9}), ')


def deaths_of(raw: bytes) -> int:
    """How many workers have ended with this message."""
    found = _DEATHS.match(raw)
    return int(found[1]) if found else 0


def with_deaths(text: str, deaths: int) -> str:
    """A message that is written anew, with the count of the one before."""
    return f'{{"redelivered": true, "deaths": {deaths}, {text[1:]}' if deaths else text


def parse(raw: bytes, tag: str, queue: str) -> dict[str, Any]:
    """A message as kombu delivers it, under the tag that it was claimed with. ValueError where it is none."""
    # What JSON has no word for is marked by kombu; everything else is read in a fifth of its time.
    payload = loads(raw.decode()) if b"__type__" in raw else orjson.loads(raw)
    if not isinstance(payload, dict):
        raise UnreadableError("it is no JSON object")
    headers, properties = payload.get("headers") or {}, payload.get("properties")
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise UnreadableError("its headers or properties are no JSON object")
    # The queue that it was taken from is its workflow, whatever it says itself.
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
    """In how many seconds a message is due; not more than 0.0 where it is, or says nothing that can be read."""
    headers = message.get("headers")
    eta = headers.get("eta") if isinstance(headers, dict) else None
    if not isinstance(eta, str):
        return 0.0
    try:
        when = datetime.fromisoformat(eta)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0
