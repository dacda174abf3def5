"""What a 429's pause does to calls that wait, are booked, or come back."""

import pytest

from limits.admission import release, sent
from limits.bucket import Quota
from limits.feedback import resume
from limits.reservation import Throttle
from tests.support.provider_feedback import throttled
from tests.unit.limits.world import World

QUOTA = Quota(rpm=600, headroom=1.0, burst=1.0)  # ten a second


@pytest.mark.parametrize(
    ("told", "paused"),
    [
        pytest.param([2.5], 2.5, id="as told"),
        pytest.param([5.0, 1.0], 5.0, id="a pause only ever grows"),
        pytest.param([1.0, 5.0], 5.0, id="and grows"),
        pytest.param([7200.0], 7200.0, id="for hours"),
        pytest.param([None], 1.0, id="not told: a second"),
        pytest.param([None, None, None], 4.0, id="then two, then four"),
        pytest.param([None] * 9, 60.0, id="up to a minute"),
    ],
)
def test_pauses(world: World, told: list[float | None], paused: float) -> None:
    for number, wait in enumerate(told):
        # Each refused request was sent after the 429 before it was known.
        left = world.run(throttled, Throttle("b", wait), world.now + number + 1)
        assert left > 0
        world.now += 1
    assert left == pytest.approx(paused, abs=1e-3)
    answer = world.denied("r", QUOTA, max_wait=0.5)
    assert answer.reason == "pause"
    assert answer.retry_in == pytest.approx(paused - 0.25, abs=1e-3)


def test_a_429_without_a_wait_still_empties_the_bucket(world: World) -> None:
    world.admitted("a", QUOTA, send_at_once=True)
    world.settle("a", throttles=(Throttle("b", 0.0),), outcome="neutral")
    assert world.available(QUOTA) <= 1e-6


def test_refusals_of_one_event_lengthen_the_wait_once(world: World) -> None:
    for number in range(4):
        assert world.run(throttled, Throttle("b", None), world.now - number) == pytest.approx(1.0)
    world.pass_time(10)
    assert world.run(throttled, Throttle("b", None)) == pytest.approx(2.0)


def test_success_ends_the_series_of_refusals(world: World) -> None:
    for number in range(3):
        world.run(throttled, Throttle("b", None), world.now + number)
        world.pass_time(10)
    world.admitted("ok", QUOTA, send_at_once=True)
    world.settle("ok")
    world.pass_time(1)
    assert world.run(throttled, Throttle("b", None)) == pytest.approx(1.0)


def test_booked_calls_keep_their_order_through_a_pause(world: World) -> None:
    for number in range(10):
        world.admitted(f"f{number}", QUOTA, send_at_once=True)
    names = [f"b{number}" for number in range(3)]
    for name in names:
        world.admitted(name, QUOTA)
    world.run(throttled, Throttle("b", 2.0))
    world.pass_time(0.3)
    waits = [world.run(sent, name, "o") for name in names]
    assert [each.verdict for each in waits] == ["wait"] * 3
    assert [each.wait for each in waits] == [pytest.approx(wait) for wait in (1.8, 1.9, 2.0)]
    assert {each.reason for each in waits} == {"pause"}
    # Asking again gives the same answer.
    assert world.run(sent, names[2], "o").wait == pytest.approx(2.0)


def test_booked_calls_are_given_back_in_a_long_pause(world: World) -> None:
    for number in range(10):
        world.admitted(f"f{number}", QUOTA, send_at_once=True)
    for number in range(30):
        world.admitted(f"b{number}", QUOTA)  # three seconds of the rate
    world.run(throttled, Throttle("b", 30.0))
    # Half of how far it may be booked ahead: it asks when the pause ends, not three seconds later.
    assert world.denied("r", QUOTA, max_wait=5.0).opens_in == pytest.approx(30.1 - 2.5, abs=0.01)


def test_units_given_back_in_a_pause_are_used_at_its_end(world: World) -> None:
    for number in range(10):
        world.admitted(f"f{number}", QUOTA, send_at_once=True)
    for number in range(30):
        world.admitted(f"b{number}", QUOTA)
    world.run(throttled, Throttle("b", 30.0))
    for number in (*range(5, 30), *range(3)):  # two stay booked, for a while after it
        assert world.run(release, f"b{number}", "o").verdict == "settled"
    world.pass_time(30.0)
    waits = [world.admitted(f"n{number}", QUOTA, max_wait=5.0).wait for number in range(10)]
    assert waits == [pytest.approx(0.3 + number / 10, abs=0.01) for number in range(10)], "behind those two"


def test_in_a_pause_only_unsent_calls_are_given_back(world: World) -> None:
    quota = Quota(tpm=60_000, headroom=1.0, burst=1.0)  # a thousand a second
    world.admitted("left", quota, costs={"tpm": 1_000}, send_at_once=True)
    world.run(throttled, Throttle("b", 10.0))
    before = world.available(quota, "tpm")
    assert world.settle("left", costs=({"tpm": 0},)) == "settled"
    assert world.available(quota, "tpm") == before


@pytest.mark.parametrize("wait", [1.0, 600.0, 86_400.0])
def test_lifting_a_pause_keeps_the_rate(world: World, wait: float) -> None:
    quota = Quota(rpm=60, rpd=10_000, headroom=1.0, burst=1.0)
    costs = {"rpm": 1, "rpd": 1}
    assert world.run(resume, "b") == 0.0
    world.admitted("a", quota, costs=costs)
    world.admitted("booked", quota, costs=costs)
    world.run(throttled, Throttle("b", wait))
    assert world.denied("x", quota, costs=costs, max_wait=0.5).reason == "pause"
    assert world.run(resume, "b") == wait
    assert world.run(resume, "b") == 0.0
    assert not world.bucket(quota).paused_until > world.now
    world.pass_time(1.0)
    assert world.run(sent, "booked", "o").verdict == "sent"
    waits = [world.admitted(f"r{number}", quota, costs=costs, max_wait=30.0).wait for number in range(3)]
    assert waits == [pytest.approx(waits[0] + number, abs=0.01) for number in range(3)]
    assert waits[0] <= 2.0
