"""Urgent work: a share of the quota and of the calls in flight, ahead of everything that is booked."""

import pytest

from limits.admission import sent
from limits.bucket import Quota
from limits.reservation import Throttle
from tests.support.provider_feedback import throttled
from tests.unit.limits.world import SECOND, World

QUOTA = Quota(rpm=600, headroom=1.0, burst=1.0, urgent_share=0.2)  # ten a second
SLOTS = Quota(concurrency=10, urgent_share=0.2)


def book(world: World, count: int, quota: Quota = QUOTA) -> list[str]:
    """Fill the bucket, then book calls behind it."""
    for number in range(10):
        assert world.admitted(f"f{number}", quota, send_at_once=True).wait == 0
    names = [f"b{number}" for number in range(count)]
    for number, name in enumerate(names):
        assert world.admitted(name, quota, max_wait=30.0).wait == pytest.approx(0.1 * (number + 1))
    return names


def test_goes_before_what_is_booked(world: World) -> None:
    names = book(world, 20)
    urgent = world.admitted("urgent", QUOTA, urgent=True)
    assert urgent.wait == pytest.approx(0.1)
    # The booked calls are postponed by what it takes and by its wait. They learn that when they are about to be sent.
    world.now = urgent.at
    assert world.run(sent, "urgent", "o").verdict == "sent"
    departure = world.run(sent, names[0], "o")
    assert departure.verdict == "wait"
    assert departure.wait == pytest.approx(0.2)
    world.pass_time(departure.wait)
    assert world.run(sent, names[0], "o").verdict == "sent"
    # A new call goes behind all of them, and leaves urgent work its fifth of a second.
    assert world.admitted("next", QUOTA, max_wait=30.0).at == pytest.approx(urgent.at + 2.4 * SECOND, abs=2)


def test_its_lane_is_as_fast_as_its_share(world: World) -> None:
    """A fifth of ten a second: the second urgent call within a tenth of a second queues like any other."""
    book(world, 20)
    first = world.admitted("u1", QUOTA, urgent=True, max_wait=30.0)
    second = world.admitted("u2", QUOTA, urgent=True, max_wait=30.0)
    assert first.wait == pytest.approx(0.1)
    assert second.wait > 2.0
    world.pass_time(1.5)
    third = world.admitted("u3", QUOTA, urgent=True, max_wait=30.0)
    assert third.wait <= 0.1 + 1e-6


def test_needs_no_lane_if_there_is_room(world: World) -> None:
    for number in range(10):
        assert world.admitted(f"u{number}", QUOTA, urgent=True).wait == 0


def test_batch_work_leaves_a_share_while_urgent_work_asks(world: World) -> None:
    world.admitted("urgent", QUOTA, urgent=True)
    waits = [world.admitted(f"r{number}", QUOTA, max_wait=1.0).wait for number in range(8)]
    assert waits[6] == 0
    assert waits[7] == pytest.approx(0.1)
    # A minute after it last asked, all is batch work's again.
    world.pass_time(61)
    assert [world.admitted(f"s{number}", QUOTA, max_wait=1.0).wait for number in range(10)][-1] == 0


def test_slots_are_kept_for_it(world: World) -> None:
    world.admitted("urgent", SLOTS, urgent=True)
    for number in range(7):
        world.admitted(f"r{number}", SLOTS)
    denied = world.denied("r7", SLOTS)
    assert denied.reason == "concurrency"
    for number in range(2):
        world.admitted(f"u{number}", SLOTS, urgent=True)
    assert world.denied("u2", SLOTS, urgent=True).reason == "concurrency"


def test_one_slot_is_for_everyone(world: World) -> None:
    one = Quota(concurrency=1)
    world.admitted("urgent", one, urgent=True)
    world.settle("urgent")
    world.admitted("batch", one)


def test_urgent_work_that_is_denied_keeps_its_share(world: World) -> None:
    """It cannot be sent now. Batch work keeps room for its next ask."""
    for number in range(10):
        world.admitted(f"f{number}", QUOTA, send_at_once=True)
    assert world.denied("urgent", QUOTA, urgent=True, max_wait=0.0).reason == "rpm"
    assert world.bucket(QUOTA).urgent
    world.pass_time(0.25)
    assert world.denied("batch", QUOTA, max_wait=0.0).reason == "rpm"
    assert world.admitted("urgent", QUOTA, urgent=True, max_wait=0.0).wait == 0


def test_a_pause_holds_for_it_too(world: World) -> None:
    world.run(throttled, Throttle("b", 3.0))
    assert world.admitted("urgent", Quota(rpm=600, burst=5.0), urgent=True).wait == pytest.approx(3.0)
