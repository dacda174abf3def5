"""The thread that keeps what a process has claimed: it also finds what stock producers have pushed."""

import pytest

from tests.site import wait_for
from tests.unit.transport.conftest import World
from workers import custody
from workers.broker import Swept
from workers.custody import Custody


def test_messages_of_stock_producers_are_found_between_two_sweeps(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custody, "SWEEP_EVERY", 60.0)
    kept = Custody(world.broker, lambda: world.client, 60.0)
    kept.watched.add(world.queue)
    kept.start()
    try:
        wait_for(lambda: world.client.exists(world.keys.sweep), 5.0, what="the first sweep")
        for message in ("first", "second"):
            world.client.lpush(world.queue, message)
            wait_for(lambda: world.client.llen(world.keys.wake), 5.0, what="a token")
            assert world.client.smembers(world.keys.ready) == {world.queue.encode()}
            claimed = world.claim(tell=True)
            assert [raw.decode() for _, raw in claimed.messages] == [message]
            world.run(world.broker.acknowledge([tag for tag, _ in claimed.messages]))
            world.client.delete(world.keys.wake)
    finally:
        kept.close()


def test_a_worker_whose_turn_it_is_not_leaves_the_looks_to_the_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custody, "SWEEP_EVERY", 60.0)
    world.run(world.broker.sweep(60.0, 60.0, 100))  # another worker's
    looked, asked = [], []
    sweep = Custody.sweep

    def look(kept: Custody) -> None:
        looked.append(kept)

    def swept(kept: Custody) -> Swept:
        asked.append(sweep(kept))
        return asked[-1]

    monkeypatch.setattr(Custody, "look", look)
    monkeypatch.setattr(Custody, "sweep", swept)
    kept = Custody(world.broker, lambda: world.client, 60.0)
    kept.watched.add(world.queue)
    kept.start()
    try:
        wait_for(lambda: asked, 5.0, what="its question whether it may sweep")
    finally:
        kept.close()
    assert [each.mine for each in asked] == [False]
    assert looked == []
