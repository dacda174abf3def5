"""The thread that keeps what a process has claimed: it also finds what stock producers have pushed."""

from collections.abc import Collection

import pytest

from tests.support.site import wait_for
from tests.unit.transport.conftest import World
from workers.transport import in_flight
from workers.transport.broker import Source, Swept
from workers.transport.discovery import MAX_CHOSEN
from workers.transport.in_flight import InFlight
from workers.transport.queues import lists


def test_stock_producers_messages_are_found_between_sweeps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "SWEEP_EVERY", 60.0)
    kept = InFlight(world.broker, lambda: world.client, 60.0)
    kept.watched.add(world.queue)
    kept.start()
    try:
        wait_for(lambda: world.client.exists(world.keys.sweep), 5.0, what="the first sweep")
        for message in ("first", "second"):
            world.client.lpush(world.queue, message)
            wait_for(lambda: world.client.llen(world.keys.wake), 5.0, what="a token")
            assert world.client.smembers(world.keys.ready) == {world.queue.encode()}
            claimed = world.claim(with_ready=True)
            assert [raw.decode() for _, raw in claimed.messages] == [message]
            world.run(world.broker.acknowledge([tag for tag, _ in claimed.messages]))
            world.client.delete(world.keys.wake)
    finally:
        kept.close()


@pytest.mark.parametrize("error", [KeyError("unforeseen"), SystemExit("an exit")], ids=["error", "exit"])
def test_the_thread_survives_every_error(world: World, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr(in_flight, "RETRY_AFTER", 0.05)
    swept, sweep = [], InFlight.sweep

    def fails_first(kept: InFlight) -> Swept:
        swept.append(kept)
        if len(swept) == 1:
            raise error
        return sweep(kept)

    monkeypatch.setattr(InFlight, "sweep", fails_first)
    kept = InFlight(world.broker, lambda: world.client, 60.0)
    kept.start()
    try:
        wait_for(lambda: world.client.exists(world.keys.sweep), 5.0, what="a sweep after the failure")
    finally:
        kept.close()


def test_only_the_sweeping_worker_looks_at_shared_queues(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "SWEEP_EVERY", 60.0)
    world.run(world.broker.sweep(60.0, 60.0, 100))  # another worker's
    looked, asked = [], []
    sweep = InFlight.sweep

    def look(kept: InFlight, queues: Collection[str]) -> None:
        looked.append((kept, queues))

    def swept(kept: InFlight) -> Swept:
        asked.append(sweep(kept))
        return asked[-1]

    monkeypatch.setattr(InFlight, "look", look)
    monkeypatch.setattr(InFlight, "sweep", swept)
    kept = InFlight(world.broker, lambda: world.client, 60.0)
    kept.watched.update(f"workflow.many-{number}" for number in range(MAX_CHOSEN + 1))
    kept.start()
    try:
        wait_for(lambda: asked, 5.0, what="its question whether it may sweep")
    finally:
        kept.close()
    assert [each.mine for each in asked] == [False]
    assert looked == []


@pytest.mark.parametrize("beside", [0, 40])
def test_a_worker_looks_at_its_own_queues(world: World, monkeypatch: pytest.MonkeyPatch, beside: int) -> None:
    """A queue that only this worker consumes from, whatever workflows it also follows."""
    monkeypatch.setattr(in_flight, "SWEEP_EVERY", 60.0)
    world.run(world.broker.sweep(60.0, 60.0, 100))  # another worker's
    queue = f"elsewhere-{world.keys.namespace}"
    kept = InFlight(world.broker, lambda: world.client, 60.0)
    kept.watched.update({queue, *(f"workflow.many-{number}" for number in range(beside))})
    kept.start()
    try:
        world.client.lpush(queue, "message")
        wait_for(lambda: world.client.llen(world.keys.wake), 5.0, what="a token")
        assert world.client.smembers(world.keys.ready) == {queue.encode()}
        claimed = world.claim(*map(Source, lists(queue)), with_ready=True)
        assert [raw for _, raw in claimed.messages] == [b"message"]
        world.run(world.broker.acknowledge([tag for tag, _ in claimed.messages]))
    finally:
        kept.close()
