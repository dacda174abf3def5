"""A message on the wire, as kombu's virtual transports write it, and the tag that it is claimed under."""

import time
from datetime import UTC, datetime
from typing import Any

import orjson
from kombu.utils.json import loads

from workers.queues import SEPARATOR


class UnreadableError(ValueError):
    """A message that is not one of kombu's."""


def opened(raw: bytes, tag: str, queue: str) -> dict[str, Any]:
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
    payload["headers"] = headers
    payload["properties"] = {**properties, "delivery_tag": tag, "delivery_info": info}
    return payload


def queue_of(tag: str) -> str:
    """The queue that a claimed message came from."""
    return tag.partition("@")[2].partition(SEPARATOR)[0]


def wait_of(message: dict[str, Any]) -> float:
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
