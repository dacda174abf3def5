"""The scripts: a message is in one place at a time, whichever process dies between two of them."""

import time

import pytest

from tests.unit.transport.conftest import World
from tests.unit.transport.reader import M, depth, end, take_all
from workers.transport import dead_letters
from workers.transport.broker import Delay, Source
from workers.transport.queues import SEPARATOR, Depth


def test_a_claimed_message_stays_in_redis_until_acknowledged(world: World) -> None:
    world.push("a", "b", "c")
    claimed = world.claim(most=2)
    assert [message for _, message in claimed.messages] == [b"a", b"b"]
    assert depth(world) == Depth(1, 2, 0)
    tags = [tag for tag, _ in claimed.messages]
    assert world.run(world.broker.acknowledge(tags)) == 2
    assert world.run(world.broker.acknowledge(tags)) == 0, "acknowledging again changes nothing"
    end(world, [world.claim().messages[0][0]])


def test_queues_take_turns_and_lower_priority_numbers_go_first(world: World) -> None:
    big, small, late = "workflow.big", "workflow.small", "workflow.big" + SEPARATOR + "9"
    world.push(*["big"] * 20, queue=big)
    world.push(*["small"] * 20, queue=small)
    world.push(*["late"] * 5, queue=late)
    sources = (Source(big, share=3), Source(small, share=1), Source(late, priority=9))
    first = [m.decode() for _, m in world.claim(*sources, most=8).messages]
    assert (first.count("big"), first.count("small")) == (6, 2)
    rest = [m.decode() for _, m in world.claim(*sources, most=100).messages]
    assert rest[-5:] == ["late"] * 5
    tags = [tag.decode() for tag in world.client.hkeys(world.keys.unacked)]
    world.run(world.broker.acknowledge(tags))


def test_a_cap_holds_over_all_workers_and_a_limit_in_one_claim(world: World) -> None:
    world.push(*["m"] * 10)
    capped = Source(world.queue, cap=3)
    first = world.claim(capped).messages
    assert len(first) == 3
    assert world.claim(capped).messages == []
    world.run(world.broker.acknowledge([first[0][0]]))
    assert len(world.claim(capped).messages) == 1
    assert len(world.claim(Source(world.queue, limit=2)).messages) == 2
    end(world, [tag.decode() for tag in world.client.hkeys(world.keys.unacked)] + take_all(world))


def test_only_urgent_work_gets_the_slots_kept_for_it(world: World) -> None:
    world.push(*["m"] * 5)
    world.push("now", queue="workflow.urgent")
    sources = (Source(world.queue), Source("workflow.urgent", urgent=True))
    messages = [m for _, m in world.claim(*sources, most=4, ordinary=0).messages]
    assert messages == [b"now"]
    world.run(world.broker.acknowledge([t.decode() for t in world.client.hkeys(world.keys.unacked)]))
    end(world, take_all(world))


def test_an_empty_list_leaves_ready_and_a_token_wakes_one(world: World) -> None:
    world.push("a", "b")
    assert world.client.llen(world.keys.wake) == 1, "one token, however many messages"
    world.client.delete(world.keys.wake)
    claimed = world.claim(most=1, with_ready=True)
    assert claimed.ready == [world.queue]
    assert world.client.llen(world.keys.wake) == 1, "what is left is for the next"
    last = world.claim(most=1, with_ready=True)
    assert last.ready == []
    end(world, [claimed.messages[0][0], last.messages[0][0]])


def test_only_a_silent_workers_messages_are_restored(world: World) -> None:
    world.push(M, M)
    alive, silent = (tag for tag, _ in world.claim().messages)
    assert world.run(world.broker.sweep(0.01, 0.6, 100)).restored == 0, "the first sweep gives everybody grace"
    ends = time.monotonic() + 5
    while depth(world).ready == 0:
        assert time.monotonic() < ends
        assert world.run(world.broker.heartbeat([alive])) == []
        world.run(world.broker.sweep(0.01, 0.6, 100))
        time.sleep(0.05)
    assert depth(world) == Depth(1, 1, 0)
    assert world.run(world.broker.heartbeat([silent])) == [silent], "its worker learns that it is another's"
    assert world.run(world.broker.acknowledge([silent])) == 0
    again = world.claim().messages
    assert again[0][1].startswith(b'{"redelivered": true, "deaths": 1, "body"')
    end(world, [alive, again[0][0]])


def test_after_an_outage_nothing_is_restored_for_one_timeout(world: World) -> None:
    world.push(M)
    tag = world.claim().messages[0][0]
    world.run(world.broker.sweep(0.01, 0.6, 100))
    ends = time.monotonic() + 0.7  # the first grace passes, and the sweeps go on
    while time.monotonic() < ends:
        world.run(world.broker.heartbeat([tag]))
        world.run(world.broker.sweep(0.01, 0.6, 100))
        time.sleep(0.05)
    time.sleep(0.9)  # the server is away: no heartbeat and no sweep reaches it
    back = time.monotonic()
    assert world.run(world.broker.sweep(0.01, 0.6, 100)).restored == 0
    while depth(world).ready == 0:
        assert time.monotonic() < back + 5
        world.run(world.broker.sweep(0.01, 0.6, 100))
        time.sleep(0.02)
    assert time.monotonic() - back >= 0.55
    end(world, take_all(world))


def test_messages_are_restored_after_the_clock_was_set_back(world: World) -> None:
    world.push(M)
    tag = world.claim().messages[0][0]
    far = int((time.time() + 600) * 1e6)
    world.client.zadd(world.broker.prefix + world.keys.unacked_index, {tag: far})
    world.client.hset(world.broker.prefix + world.keys.sweep, mapping={"seen": far, "next": far, "grace": far})
    ends = time.monotonic() + 5
    while depth(world).ready == 0:
        assert time.monotonic() < ends
        world.run(world.broker.sweep(0.01, 0.3, 100))
        time.sleep(0.02)
    end(world, take_all(world))


def test_one_worker_sweeps_at_a_time(world: World) -> None:
    swept = [world.run(world.broker.sweep(5.0, 60.0, 100)) for _ in range(3)]
    assert [one.mine for one in swept] == [True, False, False]
    assert 4.5 < swept[1].next_in <= 5.0


def test_a_due_message_goes_before_all_others(world: World) -> None:
    world.push(M)
    tag = world.claim().messages[0][0]
    world.push("later")
    assert world.run(world.broker.delay([Delay(tag, 0.3, "changed")])) == 1
    assert world.run(world.broker.delay([Delay(tag, 0.3, "again")])) == 0
    assert depth(world) == Depth(1, 0, 1)
    assert world.run(world.broker.sweep(0.01, 60.0, 100)).due == 0
    time.sleep(0.35)
    assert world.run(world.broker.sweep(0.01, 60.0, 100)).due == 1
    messages = world.claim().messages
    assert [message for _, message in messages] == [b"changed", b"later"]
    end(world, [tag for tag, _ in messages])


def test_due_messages_keep_their_order(world: World) -> None:
    for number in (2, 0, 1):
        world.run(world.broker.schedule(f"t{number}@{world.queue}", number / 100, str(number)))
    assert depth(world) == Depth(0, 0, 3)
    time.sleep(0.05)
    world.run(world.broker.sweep(0.01, 60.0, 100))
    messages = world.claim().messages
    assert [message for _, message in messages] == [b"0", b"1", b"2"]
    end(world, [tag for tag, _ in messages])


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_message_given_back_is_marked_as_redelivered(world: World, where: str) -> None:
    world.push(M)
    tag = world.claim().messages[0][0]
    world.push("other")
    assert world.run(world.broker.give_back([tag], where)) == 1  # type: ignore[arg-type]
    assert world.run(world.broker.give_back([tag], where)) == 0  # type: ignore[arg-type]
    messages = world.claim().messages
    assert [b"redelivered" in message for _, message in messages] == [where == "first", where == "last"]
    end(world, [tag for tag, _ in messages])


def test_a_stock_producers_message_is_found(world: World) -> None:
    world.client.lpush(world.queue, "m")
    assert world.claim(Source("workflow.other"), with_ready=True).ready == []
    assert world.run(world.broker.find_unannounced([world.queue, "workflow.other"])) == 1
    assert world.run(world.broker.find_unannounced([world.queue, "workflow.other"])) == 0
    assert world.claim(Source("workflow.other"), with_ready=True).ready == [world.queue]
    end(world, take_all(world))


def test_a_prefix_is_before_every_key(world: World) -> None:
    prefixed = World(world.client, world.port, "site-a.")
    prefixed.push(M)
    tag = prefixed.claim().messages[0][0]
    prefixed.run(prefixed.broker.delay([Delay(tag, 0.0)]))
    prefixed.run(prefixed.broker.sweep(0.01, 60.0, 100))
    found = set(world.client.scan_iter())
    assert b"site-a." + prefixed.queue.encode() in found
    assert all(key.startswith(b"site-a.") for key in found)
    tag = prefixed.claim().messages[0][0]
    prefixed.run(prefixed.broker.bury(tag, "reason"))
    buried = next(dead_letters.listed(world.client, prefixed.broker))
    assert dead_letters.replay(world.client, prefixed.broker, [buried.id]) == 1
    prefixed.run(prefixed.broker.acknowledge([prefixed.claim().messages[0][0]]))


def test_work_can_finish_while_the_server_is_out_of_memory(world: World) -> None:
    world.push(M, M)
    first, second = (tag for tag, _ in world.claim().messages)
    before = world.client.config_get("maxmemory")["maxmemory"]
    world.client.config_set("maxmemory", 1)
    try:
        assert world.run(world.broker.heartbeat([first, second])) == []
        assert world.run(world.broker.acknowledge([first])) == 1
        assert world.run(world.broker.give_back([second], "first")) == 1
    finally:
        world.client.config_set("maxmemory", before)
    end(world, take_all(world))
