"""Calls that are sent later than they were booked for."""

import pytest

from limits.admission import sent
from limits.bucket import Quota
from tests.unit.limits.world import World

QUOTA = Quota(rpm=600, headroom=1.0, burst=1.0)  # ten a second


def test_a_late_call_is_charged_when_it_is_sent(world: World) -> None:
    for number in range(10):
        world.admitted(f"f{number}", QUOTA, send_at_once=True)
    names = [f"b{number}" for number in range(4)]
    for name in names:
        world.admitted(name, QUOTA)
    world.pass_time(60)  # the worker stalled
    assert world.available(QUOTA) == pytest.approx(10.0)
    for name in names[:3]:
        assert world.run(sent, name, "o").verdict == "sent"
    # All at once, they could exceed what is left of a second if the provider counts by the second.
    last = world.run(sent, names[3], "o")
    assert (last.verdict, last.wait) == ("wait", pytest.approx(0.05))
    assert world.run(sent, names[3], "o").verdict == "wait"
    world.pass_time(0.05)
    assert world.run(sent, names[3], "o").verdict == "sent"
    assert world.available(QUOTA) == pytest.approx(6.5)
    # Its unused units come back as far as they lie ahead: half of its stretch has passed.
    assert world.settle(names[0], costs=({"rpm": 0},)) == "settled"
    assert world.available(QUOTA) == pytest.approx(7.0)


def test_a_late_call_has_one_turn(world: World) -> None:
    """Late again, it is sent: it was counted at the time of its turn."""
    for number in range(10):
        world.admitted(f"f{number}", QUOTA, send_at_once=True)
    names = [f"b{number}" for number in range(8)]
    for name in names:
        world.admitted(name, QUOTA)
    world.pass_time(60)
    assert [world.run(sent, name, "o").verdict for name in names] == ["sent"] * 3 + ["wait"] * 5
    world.pass_time(5)
    assert [world.run(sent, name, "o").verdict for name in names[3:]] == ["sent"] * 5


def test_a_late_call_of_two_limits_waits_for_what_has_run_out(world: World) -> None:
    """A limit that the call does not draw on, or that was forgotten, does not delay it."""
    two = Quota(rpm=600, tpm=60_000, headroom=1.0, burst=1.0)
    for name in ("a", "b", "c", "d", "e"):
        world.admitted(f"f{name}", two, costs={"rpm": 2}, send_at_once=True)
    for name in ("a", "b", "c"):
        world.admitted(name, two, costs={"rpm": 2})
    world.pass_time(60)
    assert [world.run(sent, name, "o").verdict for name in ("a", "b", "c")] == ["sent", "sent", "wait"]
    world.admitted("d", two, costs={"rpm": 2})
    world.pass_time(60)
    world.client.delete(world.keys.bucket("b"))
    assert world.run(sent, "d", "o").verdict == "sent"
