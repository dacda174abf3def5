"""The scripts: a message is in one place at a time, whichever process dies between two of them."""

import time
from dataclasses import replace
from itertools import pairwise

import orjson
import pytest

from tests.support.site import wait_for
from tests.unit.transport.conftest import World
from workers.transport import dead_letters, message
from workers.transport.broker import MAX_MESSAGE, Delay, Source
from workers.transport.queues import SEPARATOR, Depth, depths

M = '{"body": "x"}'


def depth(world: World) -> Depth:
    return depths(world.client, world.keys, [world.queue], world.broker.prefix)[world.queue]


def end(world: World, tags: list[str]) -> None:
    assert world.run(world.broker.acknowledge(tags)) == len(tags)
    assert depth(world) == Depth(0, 0, 0)


def test_a_claimed_message_is_in_the_server_until_it_is_acknowledged(world: World) -> None:
    world.push("a", "b", "c")
    claimed = world.claim(most=2)
    assert [message for _, message in claimed.messages] == [b"a", b"b"]
    assert depth(world) == Depth(1, 2, 0)
    tags = [tag for tag, _ in claimed.messages]
    assert world.run(world.broker.acknowledge(tags)) == 2
    assert world.run(world.broker.acknowledge(tags)) == 0, "acknowledging again changes nothing"
    end(world, [world.claim().messages[0][0]])


def test_queues_take_turns_by_their_share_and_lower_priority_numbers_go_first(world: World) -> None:
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


def take_all(world: World) -> list[str]:
    return [tag for tag, _ in world.claim(most=100).messages]


def test_slots_kept_for_urgent_work_are_given_to_nothing_else(world: World) -> None:
    world.push(*["m"] * 5)
    world.push("now", queue="workflow.urgent")
    sources = (Source(world.queue), Source("workflow.urgent", urgent=True))
    messages = [m for _, m in world.claim(*sources, most=4, ordinary=0).messages]
    assert messages == [b"now"]
    world.run(world.broker.acknowledge([t.decode() for t in world.client.hkeys(world.keys.unacked)]))
    end(world, take_all(world))


def test_an_empty_list_is_ready_no_more_and_a_token_wakes_one(world: World) -> None:
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


def test_a_clock_that_was_ahead_keeps_no_dead_workers_message(world: World) -> None:
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


def test_a_delayed_message_comes_back_when_due_and_before_all_others(world: World) -> None:
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


def test_what_is_due_keeps_its_order(world: World) -> None:
    for number in (2, 0, 1):
        world.run(world.broker.schedule(f"t{number}@{world.queue}", number / 100, str(number)))
    assert depth(world) == Depth(0, 0, 3)
    time.sleep(0.05)
    world.run(world.broker.sweep(0.01, 60.0, 100))
    messages = world.claim().messages
    assert [message for _, message in messages] == [b"0", b"1", b"2"]
    end(world, [tag for tag, _ in messages])


@pytest.mark.parametrize("where", ["first", "last"])
def test_what_is_given_back_says_that_it_was_delivered_before(world: World, where: str) -> None:
    world.push(M)
    tag = world.claim().messages[0][0]
    world.push("other")
    assert world.run(world.broker.give_back([tag], where)) == 1  # type: ignore[arg-type]
    assert world.run(world.broker.give_back([tag], where)) == 0  # type: ignore[arg-type]
    messages = world.claim().messages
    assert [b"redelivered" in message for _, message in messages] == [where == "first", where == "last"]
    end(world, [tag for tag, _ in messages])


def test_the_scout_finds_what_a_stock_producer_pushed(world: World) -> None:
    world.client.lpush(world.queue, "m")
    assert world.claim(Source("workflow.other"), with_ready=True).ready == []
    assert world.run(world.broker.find_unannounced([world.queue, "workflow.other"])) == 1
    assert world.run(world.broker.find_unannounced([world.queue, "workflow.other"])) == 0
    assert world.claim(Source("workflow.other"), with_ready=True).ready == [world.queue]
    end(world, take_all(world))


def test_a_buried_message_can_be_listed_replayed_and_dropped(world: World) -> None:
    world.push("poison", "more poison")
    first, second = (tag for tag, _ in world.claim().messages)
    assert world.run(world.broker.bury(first, "it is no JSON object"))
    assert world.run(world.broker.bury(first, "again")) == ""
    world.run(world.broker.bury(second, "neither is this"))
    listed = list(dead_letters.listed(world.client, world.broker))
    assert [(one.queue, one.reason, one.message) for one in listed] == [
        (world.queue, "it is no JSON object", b"poison"),
        (world.queue, "neither is this", b"more poison"),
    ]
    assert abs(listed[0].at - time.time()) < 60
    assert dead_letters.replay(world.client, world.broker, [listed[0].id, "0-1"]) == 1
    assert dead_letters.drop(world.client, world.broker, [listed[1].id]) == 1
    assert list(dead_letters.listed(world.client, world.broker)) == []
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


def test_work_can_be_finished_on_a_server_that_is_out_of_memory(world: World) -> None:
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


def dead_ones(world: World) -> list[dead_letters.DeadLetter]:
    return list(dead_letters.listed(world.client, world.broker))


def die(world: World) -> None:
    """The worker that has the message goes silent, and its time is over."""
    wait_for(lambda: world.run(world.broker.sweep(0.0, 0.6, 100)).restored, every=0.02, what="a message restored")


def claimed_again(world: World) -> list[tuple[str, bytes]]:
    """Claim what comes back in time."""

    def claim() -> list[tuple[str, bytes]]:
        world.run(world.broker.sweep(0.0, 0.6, 100))
        return world.claim().messages

    found: list[tuple[str, bytes]] = wait_for(claim, every=0.01, what="a message that is due")
    return found


def test_from_the_second_death_on_messages_come_back_ever_further_apart(world: World) -> None:
    """The one that ends its workers does so with fewer and fewer others."""
    for deaths, apart in ((1, 0.0), (2, 0.6 / 60), (3, 0.6 / 12), (4, 0.6 / 3), (5, 0.6 / 3)):
        mark = f'{{"redelivered": true, "deaths": {deaths - 1}, "body": "x"}}' if deaths > 1 else M
        world.push(mark, mark, mark)
        assert len(world.claim().messages) == 3
        wait_for(lambda: world.run(world.broker.sweep(0.0, 0.6, 100)).restored == 3, every=0.02, what="three restored")
        due = [score for _, score in world.client.zrange(world.keys.delayed, 0, -1, withscores=True)]
        assert len(due) == (3 if deaths > 1 else 0)
        assert all(b - a == pytest.approx(apart * 1e6, abs=10) for a, b in pairwise(due))
        back = 0
        while back < 3:
            back += world.run(world.broker.acknowledge([tag for tag, _ in claimed_again(world)]))
    assert depth(world) == Depth(0, 0, 0)


def test_how_many_workers_have_ended_with_a_message_is_counted_in_the_server(world: World) -> None:
    world.push(M)
    for deaths in range(4):
        ((tag, raw),) = claimed_again(world)
        assert message.deaths_of(raw) == deaths
        assert orjson.loads(raw)["body"] == "x"
        die(world)
        assert world.run(world.broker.acknowledge([tag])) == 0
    ((tag, _),) = claimed_again(world)
    world.run(world.broker.give_back([tag], "first"))
    ((tag, raw),) = world.claim().messages
    assert message.deaths_of(raw) == 4, "a worker that gives a message back has not ended with it"
    assert orjson.loads(raw) == {"redelivered": True, "deaths": 4, "body": "x"}
    world.run(world.broker.bury(tag, "it ends its workers"))
    world.run(world.broker.replay([dead_ones(world)[0].id]))
    ((tag, raw),) = world.claim().messages
    assert raw.decode() == M, "who is put back by hand begins again"
    end(world, [tag])


@pytest.mark.parametrize(
    "forged", ['{"redelivered": true, "deaths": x, "body": ""}', '{"redelivered": true, "deaths": 7']
)
def test_a_mark_that_is_none_is_no_count(world: World, forged: str) -> None:
    world.push(forged)
    world.claim()
    die(world)
    ((tag, raw),) = world.claim().messages
    assert message.deaths_of(raw) == 1
    end(world, [tag])


def test_the_dead_list_is_bounded_in_bytes(world: World) -> None:
    bury = world.broker.bury
    small = replace(bury("", ""), args=())
    for number in range(40):
        world.push(f"{number:03}" + "x" * 997)
        ((tag, _),) = world.claim().messages
        kept = (dead_age, 1000, 10_000)  # milliseconds, messages, bytes
        world.run(replace(small, args=(tag, f"reason {number}", *kept)))
        found = dead_ones(world)
        assert sum(len(each.message) for each in found) <= 10_000
        assert found[-1].reason == f"reason {number}"
        if number == 20:
            dead_letters.drop(world.client, world.broker, [found[3].id, found[-1].id])
    assert len(dead_ones(world)) == 10
    world.push("y" * 2_501)
    ((tag, _),) = world.claim().messages
    world.run(replace(small, args=(tag, "too large to be kept", dead_age, 1000, 10_000)))
    last = dead_ones(world)[-1]
    assert (last.message, last.reason) == (b"", "too large to be kept (its 2501 bytes are not kept)")
    assert world.run(world.broker.replay([last.id])) == 0, "what is not there is not put back"


dead_age = 60_000


def test_a_message_that_is_too_large_reaches_no_worker(world: World) -> None:
    world.push("a", "b" * 5_000, "c")
    call = world.broker.claim([Source(world.queue)], most=10, ordinary=10, owner="t.", number=0, with_ready=False)
    assert call.args[6] == MAX_MESSAGE
    bounded = replace(call, args=(*call.args[:6], 4_999, *call.args[7:]))
    assert [raw for _, raw in world.run(bounded).messages] == [b"a", b"c"]
    (found,) = dead_ones(world)
    assert (found.queue, found.reason, len(found.message)) == (world.queue, "it has 5000 bytes, 4999 at most", 5_000)
    end(world, ["t.0@" + world.queue, "t.1@" + world.queue])
