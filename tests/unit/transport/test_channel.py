"""The channel and the custody behind it, as Celery's worker uses them, against a real server."""

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Consumer, Queue
from kombu.pidbox import Mailbox

from limits.client.connection import Server
from limits.errors import ServerUnavailable
from tests.support.site import wait_for
from tests.unit.transport.conftest import World
from workers import consumer
from workers.transport import dead_letters, envelope
from workers.transport.queues import Depth, depths

if TYPE_CHECKING:
    import redis


class Reader:
    """A consumer of one queue, which keeps what it is given."""

    def __init__(self, connection: Connection, queue: str, prefetch: int = 10) -> None:
        self.connection = connection
        self.channel = connection.default_channel
        self.messages: list[Any] = []
        self.consumer = Consumer(
            self.channel, [Queue(queue)], on_message=self.messages.append, accept=["json"], prefetch_count=prefetch
        )
        self.consumer.consume()

    def read(self, count: int = 1, seconds: float = 5.0) -> list[Any]:
        """Wait until so many messages are here; they are the reader's until it is asked again."""
        ends = time.monotonic() + seconds
        while len(self.messages) < count:
            assert time.monotonic() < ends, f"{len(self.messages)} of {count} messages within {seconds} s"
            self.drain()
        found, self.messages[:] = list(self.messages), []
        return found

    def drain(self, seconds: float = 0.1) -> None:
        with suppress(TimeoutError):
            self.connection.drain_events(timeout=seconds)


@contextmanager
def reading(world: World, prefetch: int = 10, **options: Any) -> Iterator[Reader]:
    with world.connection(**options) as connection:
        yield Reader(connection, world.queue, prefetch)


def publish(
    world: World, *bodies: Any, stock: bool = False, headers: dict[str, Any] | None = None, **more: Any
) -> None:
    """Publish over our transport, or over kombu's own as a stock producer does."""
    if stock:
        options = {"global_keyprefix": world.broker.prefix}
        opened = Connection(
            f"redis://127.0.0.1:{world.port}/0", transport="kombu.transport.redis:Transport", transport_options=options
        )
    else:
        opened = world.connection().__enter__()
    with opened as connection, connection.Producer(serializer="json") as producer:
        for body in bodies:
            producer.publish(body, routing_key=world.queue, exchange="", headers=headers, **more)


def depth(world: World) -> Depth:
    return depths(world.client, world.keys, [world.queue], world.broker.prefix)[world.queue]


def settled(world: World, expected: Depth) -> None:
    wait_for(lambda: depth(world) == expected, 5.0, what=f"{expected}, found {depth(world)}")


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
def test_a_message_is_delivered_and_acknowledged(world: World, stock: bool) -> None:
    with reading(world) as reader:
        publish(world, {"n": 1}, stock=stock)
        (message,) = reader.read()
        assert message.payload == {"n": 1}
        assert not message.delivery_info.get("redelivered")
        assert depth(world) == Depth(0, 1, 0)
        message.ack()
        settled(world, Depth(0, 0, 0))


def test_a_batch_wakes_an_idle_reader(world: World) -> None:
    with reading(world, prefetch=1000) as reader, world.connection() as connection:
        reader.drain(0.3)
        with connection.Producer(serializer="json") as producer, producer.batch(500):
            for number in range(1_200):
                producer.publish({"n": number}, routing_key=world.queue, exchange="")
        began = time.monotonic()
        messages = reader.read(1000)
        assert time.monotonic() - began < 2.0
        assert [message.payload["n"] for message in messages] == list(range(1000)), "prefetch, and in order"
        for message in messages:
            message.ack()
        rest = reader.read(200)
        for message in rest:
            message.ack()
        settled(world, Depth(0, 0, 0))


def test_prefetch_is_what_may_be_in_flight(world: World) -> None:
    publish(world, *range(5))
    with reading(world, prefetch=2) as reader:
        first = reader.read(2)
        reader.drain(0.2)
        assert reader.messages == []
        assert depth(world) == Depth(3, 2, 0)
        first[0].ack()
        assert len(reader.read(1)) == 1


def test_a_connection_that_breaks_changes_nothing(world: World) -> None:
    publish(world, 1, 2)
    with world.connection() as connection:
        reader = Reader(connection, world.queue, prefetch=2)
        one, two = reader.read(2)
        for number in world.client.client_list():
            if number["cmd"] in {"evalsha", "blpop"}:
                world.client.client_kill_filter(_id=number["id"])
        connection.collect()
    with reading(world, prefetch=2) as again:
        again.drain(0.3)
        assert again.messages == [], "both are still being worked on"
        assert depth(world) == Depth(0, 2, 0)
        one.ack()
        two.ack()
        settled(world, Depth(0, 0, 0))


def test_what_nobody_works_on_any_more_goes_back(world: World) -> None:
    publish(world, 1)
    with world.connection() as connection:
        Reader(connection, world.queue).read(1)
    gc.collect()
    settled(world, Depth(1, 0, 0))
    with reading(world) as reader:
        (message,) = reader.read()
        assert message.delivery_info["redelivered"]
        assert message.headers["redelivered"]
        message.ack()


def test_the_end_of_the_process_gives_back_what_it_has(world: World) -> None:
    publish(world, 1, 2)
    with reading(world) as reader:
        one, _two = reader.read(2)
        one.ack()
        world.leave()
        assert depth(world) == Depth(1, 0, 0)


def test_requeue_and_reject(world: World) -> None:
    publish(world, 1, 2)
    with reading(world, prefetch=1) as reader:
        (one,) = reader.read()
        one.requeue()
        (two,) = reader.read()
        assert two.payload == 2, "what was put back waits behind the others"
        two.reject()
        (one,) = reader.read()
        assert (one.payload, one.delivery_info["redelivered"]) == (1, True)
        one.ack()
        settled(world, Depth(0, 0, 0))


def test_a_long_call_is_kept_by_its_heartbeat_and_runs_once(world: World) -> None:
    publish(world, 1)
    with reading(world, timeout=1.0) as reader:
        (message,) = reader.read()
        for _ in range(30):
            reader.drain(0.1)
        assert reader.messages == []
        assert depth(world) == Depth(0, 1, 0)
        message.ack()
        settled(world, Depth(0, 0, 0))


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
def test_an_eta_waits_in_the_server_and_not_in_a_slot(world: World, stock: bool) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=1.5)
    publish(world, "later", stock=stock, headers={"eta": eta.isoformat()})
    publish(world, "now")
    with reading(world, prefetch=1) as reader:
        (now,) = reader.read()
        assert now.payload == "now"
        settled(world, Depth(0, 1, 1))
        assert reader.channel._size(world.queue) == 1, "a queue's size tells of it"
        now.ack()
        (later,) = reader.read()
        late = time.time() - eta.timestamp()
        assert 0 <= late < 0.6
        assert "eta" not in later.headers, "Celery would hold it back once more"
        later.ack()
        settled(world, Depth(0, 0, 0))


def test_a_snooze_changes_headers_and_keeps_the_rest(world: World) -> None:
    publish(world, {"prompt": "x" * 1000}, headers={"id": "1", "overnight": {"attempts": 1}})
    with reading(world, prefetch=1) as reader:
        (message,) = reader.read()
        reader.channel.snooze(message.delivery_tag, 0.5, {"overnight": {"attempts": 2}})
        settled(world, Depth(0, 0, 1))
        (again,) = reader.read()
        assert again.payload == message.payload
        assert again.headers["overnight"] == {"attempts": 2}
        assert again.headers["id"] == "1"
        assert not again.delivery_info.get("redelivered"), "it was not lost, it waited"
        again.ack()
        settled(world, Depth(0, 0, 0))


def test_a_snooze_through_a_closed_channel_lands(world: World) -> None:
    publish(world, 1, 2)
    with world.connection() as connection:
        one, two = Reader(connection, world.queue, prefetch=2).read(2)
    one.channel.snooze(one.delivery_tag, 30.0, {"overnight": {"attempts": 7}})
    two.ack()
    settled(world, Depth(0, 0, 1))
    assert b'"attempts": 7' in next(iter(world.client.hvals(world.keys.delayed_messages)))
    with world.connection() as connection:
        assert connection.default_channel.queue_purge(world.queue) == 1


def test_purge_drops_what_is_ready_and_what_is_delayed(world: World) -> None:
    publish(world, 1, 2, 3)
    publish(world, 4, priority=9)
    publish(world, 5, headers={"eta": (datetime.now(UTC) + timedelta(hours=1)).isoformat()})
    with reading(world, prefetch=1) as reader:
        (message,) = reader.read()
        assert reader.channel.queue_purge(world.queue) == 4
        assert depth(world) == Depth(0, 1, 0)
        message.ack()
        settled(world, Depth(0, 0, 0))


def test_priorities(world: World) -> None:
    publish(world, "late", priority=9)
    publish(world, "middle", priority=4)
    publish(world, "first", priority=0)
    with reading(world) as reader:
        messages = reader.read(3)
        assert [message.payload for message in messages] == ["first", "middle", "late"]
        for message in messages:
            message.ack()
        settled(world, Depth(0, 0, 0))


def test_a_single_message_can_be_asked_for(world: World) -> None:
    publish(world, 1, 2)
    with world.connection() as connection:
        queue = Queue(world.queue)(connection.default_channel)
        message = queue.get()
        assert message.payload == 1
        message.ack()
        assert queue.get(no_ack=True).payload == 2
        assert queue.get() is None
        settled(world, Depth(0, 0, 0))


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
def test_poison_is_set_aside_and_stops_nobody(world: World, poison: str | bytes) -> None:
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


def test_a_server_that_forgot_its_scripts_learns_them_again(world: World) -> None:
    with reading(world) as reader:
        for number in range(3):
            world.client.script_flush()
            publish(world, number)
            (message,) = reader.read()
            message.ack()
        settled(world, Depth(0, 0, 0))


def test_what_was_done_while_the_server_is_away_is_told_when_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(world, 1, 2)
    with reading(world) as reader:
        one, two = reader.read(2)
        real = Server.run
        monkeypatch.setattr(Server, "run", away)
        one.ack()
        reader.channel.snooze(two.delivery_tag, 60.0, {})
        time.sleep(0.3)
        assert depth(world) == Depth(0, 2, 0), "neither lost nor acknowledged"
        monkeypatch.setattr(Server, "run", real)
        settled(world, Depth(0, 0, 1))
        reader.channel.queue_purge(world.queue)


def away(server: Server, call: Any) -> Any:
    del server, call
    raise ServerUnavailable("The Redis server gave no answer.")


def test_with_a_prefix(client: "redis.Redis", port: int) -> None:
    client.flushall()
    world = World(client, port, "site-a.")
    try:
        publish(world, "stock", stock=True)
        publish(world, "ours")
        publish(world, "later", headers={"eta": (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()})
        with reading(world) as reader:
            messages = reader.read(3)
            assert sorted(message.payload for message in messages) == ["later", "ours", "stock"]
            for message in messages:
                message.ack()
            wait_for(lambda: not client.exists(f"site-a.{world.keys.unacked}"), 5.0)
        strangers = [key for key in client.scan_iter() if not key.startswith((b"site-a.", b"_kombu"))]
        assert strangers == []
    finally:
        world.leave()


def test_replies_and_broadcasts_still_work(world: World) -> None:
    """`celery inspect` waits on queues that want no acknowledgement, beside the workers on the same transport."""
    done = threading.Event()
    with world.connection() as connection, world.connection() as other:
        mailbox = Mailbox("celery", type="fanout", accept=["json"])
        node = mailbox.Node("worker", channel=connection.channel(), handlers={"ping": pong})
        node.listen(callback=node.handle_message)

        def serve() -> None:
            while not done.is_set():
                with suppress(TimeoutError):
                    connection.drain_events(timeout=0.1)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            assert mailbox(other).call(["worker"], "ping", {}, timeout=1.0) == [{"worker": {"ok": "pong"}}]
        finally:
            done.set()
            thread.join()


def pong(_state: Any) -> dict[str, str]:
    return {"ok": "pong"}


def test_a_message_that_cannot_be_taken_on_is_set_aside_after_three_failures(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_message_that_ends_its_workers_is_known_by_that_however_often_it_waits(world: World) -> None:
    """The count outlives a snooze; what a producer says of it counts for nothing."""
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
    assert one.reason == "6 workers ended while they had it", "not even read once more"
