"""How batches of task events are written."""

from decimal import Decimal

import orjson
from kombu.serialization import dumps, loads, registry

from workers.event_batches import SERIALIZER


def test_a_batch_of_events_is_plain_json() -> None:
    events = [{"type": "task-received", "kwargs": "{'job': \u2026}", "timestamp": 1.5, "clock": 2**40}]
    content_type, encoding, body = dumps(events, serializer=SERIALIZER)
    assert (content_type, encoding) == ("application/json", "utf-8")
    assert orjson.loads(body) == events
    assert loads(body, content_type, encoding) == events


def test_what_orjson_cannot_write_is_written_by_kombu() -> None:
    events = [{"type": "task-custom", "price": Decimal("1.10"), "large": 2**80}]
    content_type, encoding, body = dumps(events, serializer=SERIALIZER)
    assert loads(body, content_type, encoding)[0]["large"] == 2**80
    assert str(loads(body, content_type, encoding)[0]["price"]) == "1.10"


def test_other_messages_are_written_by_kombu() -> None:
    assert registry.type_to_name["application/json"] == "json"
    assert loads(*reversed_parts(dumps({"price": Decimal("1.10")}, serializer="json"))) == {"price": Decimal("1.10")}


def reversed_parts(dumped: tuple[str, str, str]) -> tuple[str, str, str]:
    """As `dumps` returns it, in the order that `loads` takes it."""
    content_type, encoding, body = dumped
    return body, content_type, encoding
