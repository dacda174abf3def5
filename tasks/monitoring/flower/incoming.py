"""Which fields of an event are kept. Events come from the broker, where anyone can publish one.

Celery makes every field of an event an attribute of a task or a worker, and Flower shows it; a value that is not text
goes into the page as HTML. So only known fields of the right type are kept, and an event without the fields that Celery
needs is dropped.
"""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final

from celery.events import EventReceiver

from tasks.monitoring.labels import Labels
from workers.plain_text import plain
from workers.transport.envelope import JOB

#: The events of Celery's workers and producers.
TYPES: Final = frozenset(
    {
        *("task-sent", "task-received", "task-started", "task-succeeded", "task-failed", "task-rejected"),
        *("task-revoked", "task-retried", "task-cancelled", "worker-online", "worker-heartbeat", "worker-offline"),
    }
)

#: Fields that are numbers -> their maximum. The minimum is 0, except for a time zone's offset.
NUMBERS: Final[Mapping[str, float]] = {
    "timestamp": 4_102_444_800.0,  # the year 2100
    "clock": 1e15,
    "pid": 1e10,
    "utcoffset": 24.0,
    "retries": 1e9,
    "runtime": 1e9,
    "signum": 1e3,
    "freq": 1e6,
    "active": 1e9,
    "processed": 1e15,
    "cost_usd": 1e9,
    "attempts": 1e6,
}

#: Fields that are text or a number -> the number of characters that are kept.
TEXTS: Final[Mapping[str, int]] = {
    **dict.fromkeys(("uuid", "hostname", "name", "root_id", "parent_id", "queue", "exchange", "routing_key"), 255),
    **dict.fromkeys(("eta", "expires", "sw_ident", "sw_ver", "sw_sys", "workflow", "provider", "model", "tokens"), 300),
    **dict.fromkeys(("args", "kwargs", "result", "exception"), 1_000),
    "traceback": 8_000,
}

#: Fields that are true or false.
FLAGS: Final = frozenset({"terminated", "expired", "requeue"})

#: Distinct workers of events: each is a label of Flower's metrics.
MOST_WORKERS: Final = 1_000

#: Distinct task names of events: also labels.
MOST_NAMES: Final = 200

#: The largest integer that JavaScript represents exactly.
LARGEST: Final = 2**53

#: Values of a load average: over 1, 5 and 15 minutes.
_LOAD: Final = 3


def checked(event: Any) -> dict[str, Any] | None:
    """The fields of `event` that are kept; None if it is to be dropped."""
    kind = event.get("type") if isinstance(event, Mapping) else None
    if not isinstance(kind, str) or kind not in TYPES:
        return None
    kept: dict[str, Any] = {"type": kind}
    for name, value in event.items():
        if name in NUMBERS and is_number(value) and -NUMBERS[name] <= value <= NUMBERS[name]:
            if value >= 0 or name == "utcoffset":
                kept[name] = value
        elif name in TEXTS and value is not None:
            kept[name] = text(value, TEXTS[name])
        elif name in FLAGS:
            kept[name] = bool(value)
    load = event.get("loadavg")
    if isinstance(load, list | tuple) and len(load) <= _LOAD and all(is_number(each) for each in load):
        kept["loadavg"] = list(load)
    if kind == "task-sent" and kept.get("name") == JOB:
        kept |= {"args": "()", "kwargs": "{}"}  # a plain Celery producer puts the start of the prompt here
    for name in ("uuid", "hostname", "name", "workflow", "root_id", "parent_id"):
        if name in kept:
            kept[name] = str(kept[name])
    needed = {"hostname", "timestamp"} | ({"uuid"} if kind.startswith("task-") else set())
    return kept if all(kept.get(name) not in (None, "") for name in needed) else None


def is_number(value: Any) -> bool:
    """Whether `value` is an integer that JavaScript represents exactly, or a finite float."""
    return (type(value) is int and abs(value) <= LARGEST) or (type(value) is float and isfinite(value))


def text(value: Any, most: int) -> str | float:
    """`value` as text of at most `most` characters; a number stays a number."""
    if is_number(value):
        return value  # type: ignore[no-any-return]  # is_number has no type guard
    words = plain(value if isinstance(value, str) else repr(value))
    return words if len(words) <= most else words[: most - 1] + "…"


class Receiver(EventReceiver):  # type: ignore[misc]  # Celery has no types
    """Celery's receiver, with a check of each event."""

    #: Whether a worker's name is known, or there is room for another one.
    room: Callable[[str], bool] = staticmethod(lambda _: True)

    names = Labels(most=MOST_NAMES)

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
        """Return Celery's consumer, which drops messages that it cannot decode."""
        del channel
        made = consumer(queues=[self.queue], callbacks=[self._receive], no_ack=True, accept=self.accept)
        made.on_decode_error = _dropped
        return [made]

    def _receive(self, body: Any, message: Any, **_: Any) -> None:
        del message
        for event in body if isinstance(body, list) else [body]:
            kept = checked(event)
            if kept is None or not type(self).room(kept["hostname"]):
                continue
            if "name" in kept:
                kept["name"] = self.names.of(kept["name"])
            self.process(*self.event_from_message(kept))


def _dropped(message: Any, error: Exception) -> None:
    del message, error
