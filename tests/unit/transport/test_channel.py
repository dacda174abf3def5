"""The channel and the messages in flight behind it, as Celery's worker uses them, on a real server."""

import gc
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Queue
from kombu.pidbox import Mailbox

from limits.client.connection import Server
from limits.errors import ServerUnavailable
from tests.support.site import wait_for
from tests.unit.transport.conftest import World
from workers.transport.queues import Depth

if TYPE_CHECKING:
    import redis
from tests.unit.transport.reader import Reader, depth, publish, reading, settled


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


def test_prefetch_bounds_the_messages_in_flight(world: World) -> None:
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


def test_a_message_that_nothing_holds_goes_back(world: World) -> None:
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


def test_a_process_gives_its_messages_back_at_exit(world: World) -> None:
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
        assert two.payload == 2, "a requeued message waits behind the others"
        two.reject()
        (one,) = reader.read()
        assert (one.payload, one.delivery_info["redelivered"]) == (1, True)
        one.ack()
        settled(world, Depth(0, 0, 0))


def test_a_heartbeat_keeps_a_long_call(world: World) -> None:
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
def test_a_message_with_an_eta_waits_in_the_server(world: World, stock: bool) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=1.5)
    publish(world, "later", stock=stock, headers={"eta": eta.isoformat()})
    publish(world, "now")
    with reading(world, prefetch=1) as reader:
        (now,) = reader.read()
        assert now.payload == "now"
        settled(world, Depth(0, 1, 1))
        assert reader.channel._size(world.queue) == 1, "a queue's size includes it"
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
        assert not again.delivery_info.get("redelivered"), "a snooze is not a redelivery"
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


def test_purge_drops_ready_and_delayed_messages(world: World) -> None:
    publish(world, 1, 2, 3)
    publish(world, 4, priority=9)
    publish(world, 5, headers={"eta": (datetime.now(UTC) + timedelta(hours=1)).isoformat()})
    with reading(world, prefetch=1) as reader:
        (message,) = reader.read()
        assert reader.channel.queue_purge(world.queue) == 4
        assert depth(world) == Depth(0, 1, 0)
        message.ack()
        settled(world, Depth(0, 0, 0))


def test_lower_priority_numbers_are_delivered_first(world: World) -> None:
    publish(world, "late", priority=9)
    publish(world, "middle", priority=4)
    publish(world, "first", priority=0)
    with reading(world) as reader:
        messages = reader.read(3)
        assert [message.payload for message in messages] == ["first", "middle", "late"]
        for message in messages:
            message.ack()
        settled(world, Depth(0, 0, 0))


def test_a_single_message_can_be_fetched(world: World) -> None:
    publish(world, 1, 2)
    with world.connection() as connection:
        queue = Queue(world.queue)(connection.default_channel)
        message = queue.get()
        assert message.payload == 1
        message.ack()
        assert queue.get(no_ack=True).payload == 2
        assert queue.get() is None
        settled(world, Depth(0, 0, 0))


def test_scripts_are_loaded_again_after_a_restart(world: World) -> None:
    with reading(world) as reader:
        for number in range(3):
            world.client.script_flush()
            publish(world, number)
            (message,) = reader.read()
            message.ack()
        settled(world, Depth(0, 0, 0))


def test_changes_made_during_an_outage_reach_the_server(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(world, 1, 2)
    with reading(world) as reader:
        one, two = reader.read(2)
        real = Server.run
        tries = []

        def lost(server: Server, call: Any) -> Any:
            tries.append(call)
            return away(server, call)

        monkeypatch.setattr(Server, "run", lost)
        one.ack()
        reader.channel.snooze(two.delivery_tag, 60.0, {})
        wait_for(lambda: len(tries) > 1, what="two tries")
        assert depth(world) == Depth(0, 2, 0), "neither lost nor acknowledged"
        monkeypatch.setattr(Server, "run", real)
        settled(world, Depth(0, 0, 1))
        reader.channel.queue_purge(world.queue)


def away(server: Server, call: Any) -> Any:
    del server, call
    raise ServerUnavailable("The Redis server gave no answer.")


def test_all_keys_have_the_prefix(client: "redis.Redis", port: int) -> None:
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
