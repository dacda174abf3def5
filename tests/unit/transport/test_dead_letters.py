"""Dead letters, and the count of deaths that makes one."""

import time
from dataclasses import replace
from itertools import pairwise

import orjson
import pytest

from tests.support.site import wait_for
from tests.unit.transport.conftest import World
from tests.unit.transport.reader import M, depth, end, take_all
from workers.transport import dead_letters, message
from workers.transport.broker import MAX_MESSAGE, Source
from workers.transport.queues import Depth

dead_age = 60_000


def dead_ones(world: World) -> list[dead_letters.DeadLetter]:
    return list(dead_letters.listed(world.client, world.broker))


def die(world: World) -> None:
    """Let the worker of the message go silent until it is restored."""
    wait_for(lambda: world.run(world.broker.sweep(0.0, 0.6, 100)).restored, every=0.02, what="a message restored")


def claimed_again(world: World) -> list[tuple[str, bytes]]:
    """Claim the messages that return."""

    def claim() -> list[tuple[str, bytes]]:
        world.run(world.broker.sweep(0.0, 0.6, 100))
        return world.claim().messages

    found: list[tuple[str, bytes]] = wait_for(claim, every=0.01, what="a message that is due")
    return found


def test_a_dead_letter_can_be_listed_replayed_and_dropped(world: World) -> None:
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


def test_messages_return_further_apart_with_each_death(world: World) -> None:
    """A message that kills its workers takes fewer and fewer others with it."""
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


def test_the_server_counts_a_messages_deaths(world: World) -> None:
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
    assert raw.decode() == M, "a replayed message starts again at zero"
    end(world, [tag])


@pytest.mark.parametrize(
    "forged", ['{"redelivered": true, "deaths": x, "body": ""}', '{"redelivered": true, "deaths": 7']
)
def test_a_malformed_mark_is_not_counted(world: World, forged: str) -> None:
    world.push(forged)
    world.claim()
    die(world)
    ((tag, raw),) = world.claim().messages
    assert message.deaths_of(raw) == 1
    end(world, [tag])


def test_dead_letters_are_bounded_in_bytes(world: World) -> None:
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


def test_a_message_that_is_too_large_becomes_a_dead_letter(world: World) -> None:
    world.push("a", "b" * 5_000, "c")
    call = world.broker.claim([Source(world.queue)], most=10, ordinary=10, owner="t.", number=0, with_ready=False)
    assert call.args[6] == MAX_MESSAGE
    bounded = replace(call, args=(*call.args[:6], 4_999, *call.args[7:]))
    assert [raw for _, raw in world.run(bounded).messages] == [b"a", b"c"]
    (found,) = dead_ones(world)
    assert (found.queue, found.reason, len(found.message)) == (world.queue, "it has 5000 bytes, 4999 at most", 5_000)
    end(world, ["t.0@" + world.queue, "t.1@" + world.queue])
