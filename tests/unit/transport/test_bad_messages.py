"""Messages that no worker can run become dead letters, and stop no worker."""

import pytest

from tests.unit.transport.conftest import World
from tests.unit.transport.reader import publish, reading, settled
from workers import consumer
from workers.transport import dead_letters, envelope
from workers.transport.queues import Depth

POISON = {
    "no JSON": "this is no JSON",
    "no UTF-8": b"\xff\xfe\x00",
    "no object": "[1, 2]",
    "a number": "7",
    "no properties": '{"body": "", "headers": {}}',
    "properties of the wrong type": '{"body": "", "headers": {}, "properties": [1]}',
    "headers of the wrong type": '{"body": "", "headers": "h", "properties": {}}',
    "a body that is no base64": '{"body": "abc", "headers": {}, "properties": {"body_encoding": "base64"}}',
    "an unknown encoding": '{"body": "x", "headers": {}, "properties": {"body_encoding": "rot13"}}',
    "too deep": "[" * 100_000,
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
def test_a_malformed_message_becomes_a_dead_letter(world: World, poison: str | bytes) -> None:
    world.client.lpush(world.queue, poison)
    publish(world, "good")
    with reading(world) as reader:
        (good,) = reader.read()
        assert good.payload == "good"
        good.ack()
        settled(world, Depth(0, 0, 0))
    (one,) = dead_letters.listed(world.client, world.broker)
    assert one.queue == world.queue
    assert one.message == (poison if isinstance(poison, bytes) else poison.encode())
    assert one.reason.startswith("unreadable: ")


def test_a_message_without_headers_or_tag_is_delivered(world: World) -> None:
    world.client.lpush(world.queue, '{"body": "eyJuIjogMX0=", "properties": {"body_encoding": "base64"}}')
    with reading(world) as reader:
        (message,) = reader.read()
        assert message.delivery_info["routing_key"] == world.queue
        message.ack()
        settled(world, Depth(0, 0, 0))


def test_three_failures_to_start_a_task_make_a_dead_letter(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (consumer.RETRY_AFTER, consumer.MAX_UNTAKEN) == (15.0, 3)
    monkeypatch.setattr(consumer, "RETRY_AFTER", 0.05)
    publish(world, "poison", headers={"task": "some.task", "id": "one", consumer.UNTAKEN: -1})
    mine = object.__new__(consumer.Consumer)
    with reading(world) as reader:
        for failed in range(3):
            (message,) = reader.read()
            assert message.headers[consumer.UNTAKEN] == (failed or -1)
            mine.snooze(message, "TypeError")
        settled(world, Depth(0, 0, 0))
    (one,) = dead_letters.listed(world.client, world.broker)
    assert one.reason == "the worker failed to start its task, more than once: TypeError"


def test_a_snooze_keeps_the_count_of_deaths(world: World) -> None:
    """A producer's own count is ignored."""
    deadly = '{"redelivered": true, "deaths": 4, "body": "1", "content-type": "application/json", "deaths": 0, '
    forged = '"headers": {"task": "overnight.job", "id": "one"}, "properties": {"overnight_deaths": 0}}'
    world.client.lpush(world.queue, deadly + forged)
    with reading(world) as reader:
        (message,) = reader.read()
        assert envelope.unreadable(message, lambda _: True) != "4 workers ended while they had it"
        reader.channel.snooze(message.delivery_tag, 0.01, {})
        (again,) = reader.read()
        assert again.properties[envelope.DEATHS] == 4
        reader.channel.basic_ack(again.delivery_tag)
        world.client.lpush(world.queue, deadly.replace("4", "5") + forged)
        (fatal,) = reader.read()
        assert envelope.unreadable(fatal, lambda _: True) == "5 workers ended while they had it"
        reader.channel.basic_ack(fatal.delivery_tag)
        world.client.lpush(world.queue, deadly.replace("4", "6") + "no JSON")
        publish(world, "good")
        (good,) = reader.read()
        good.ack()
        settled(world, Depth(0, 0, 0))
    (one,) = dead_letters.listed(world.client, world.broker)
    assert one.reason == "6 workers ended while they had it", "it is not parsed again"
