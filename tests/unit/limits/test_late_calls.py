"""Calls that are sent later than they were booked for."""

import pytest

from limits.admission import release, sent
from limits.bucket import Quota
from tests.unit.limits.world import World

QUOTA = Quota(rpm=600, headroom=1.0, burst=1.0)  # ten a second


def book(world: World, calls: int, quota: Quota = QUOTA) -> list[str]:
    """Use up a second's worth, and book calls behind it."""
    for number in range(10):
        world.admitted(f"f{number}", quota, send_at_once=True)
    names = [f"b{number}" for number in range(calls)]
    for name in names:
        world.admitted(name, quota)
    return names


def test_a_late_call_is_charged_when_it_is_sent(world: World) -> None:
    names = book(world, 2)
    world.pass_time(0.4)  # the first is three tenths late, the second two
    assert world.available(QUOTA) == pytest.approx(2.0)
    assert world.run(sent, names[1], "o").verdict == "sent"
    assert world.available(QUOTA) == pytest.approx(2.0), "a call that is booked is charged already"
    # Its unused units come back as far as they lie ahead.
    assert world.settle(names[1], costs=({"rpm": 0},)) == "settled"


def test_calls_of_a_stalled_worker_ask_again_and_leave_at_the_rate(world: World) -> None:
    names = book(world, 30)
    world.pass_time(60)
    waits = []
    for name in names:
        assert world.run(sent, name, "o").verdict == "revoked"
        world.run(release, name, "o")
        waits.append(world.admitted(f"{name}'", QUOTA, send_at_once=True).wait)
    assert waits == [pytest.approx(max(0, number - 9) / 10, abs=1e-3) for number in range(30)]


def test_a_call_of_a_forgotten_bucket_is_sent(world: World) -> None:
    (name,) = book(world, 1)
    world.pass_time(0.1)
    world.client.delete(world.keys.bucket("b"))
    assert world.run(sent, name, "o").verdict == "sent"
