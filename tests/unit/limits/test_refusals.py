"""What a 429 says about a learned burst: it was too large, minutes are counted, or nothing."""

import pytest

from limits.bucket import Quota
from limits.reservation import Admitted, Level, Throttle
from tests.support.provider_feedback import throttled
from tests.unit.limits.bursts import AUTO, RPM, call, drain, press
from tests.unit.limits.world import World


def test_falls_back_by_half_and_holds_longer_each_time(world: World) -> None:
    press(world, 70)
    burst = world.burst(AUTO)
    for hold in (60, 120, 240):
        world.run(throttled, Throttle("b", 0.5))
        burst /= 2
        assert world.burst(AUTO) == pytest.approx(burst)
        press(world, hold - 1)
        assert world.burst(AUTO) == pytest.approx(burst), "held"
        press(world, 3)
        assert world.burst(AUTO) > burst, "grows again"
        burst = world.burst(AUTO)


@pytest.mark.parametrize("throttles", [1, 3])
def test_the_rate_goes_on_when_the_wait_is_over(world: World, throttles: int) -> None:
    """Calls sent under the larger burst are no debt under the halved one."""
    press(world, 70)
    assert drain(world, AUTO) > 50
    for _ in range(throttles):
        world.run(throttled, Throttle("b", 0.5))
        world.pass_time(0.01)
    world.pass_time(0.5)
    sent = 0
    for number in range(200):
        world.pass_time(0.05)
        sent += isinstance(world.ask(f"n{number}", AUTO, max_wait=0.0, send_at_once=True), Admitted)
    assert 98 <= sent <= 101, "ten a second"


def test_waiters_for_a_growing_burst_ask_within_seconds(world: World) -> None:
    for _ in range(2):  # in the first second only its own share is sent
        drain(world, AUTO)
        world.pass_time(1)
    drain(world, AUTO)
    told = [world.denied(f"w{number}", AUTO, max_wait=0.0).retry_in for number in range(300)]
    assert max(wait for wait in told if wait is not None) <= 5.5
    world.run(throttled, Throttle("b", 0.5))
    told = [world.denied(f"v{number}", AUTO, max_wait=0.0).retry_in for number in range(300)]
    assert max(wait for wait in told if wait is not None) > 25.0, "it does not grow now: each has a place in line"


@pytest.mark.parametrize(("told", "longest"), [(None, 35.0), (9, 35.0), (300, 12.0)])
def test_waiters_ask_soon_if_a_pause_may_end_with_a_burst(world: World, told: int | None, longest: float) -> None:
    call(world, "told")
    if told is not None:
        world.level("told", rpm=Level(RPM, told))
    world.run(throttled, Throttle("b", 6.0))
    hints = [world.denied(f"w{number}", AUTO).retry_in for number in range(300)]
    waits = [hint for hint in hints if hint is not None]
    assert longest - 7.0 < max(waits) <= longest
    assert min(waits) >= 3.4, "the first come ahead by half of max_wait"


@pytest.mark.parametrize(("left", "halved"), [(4, False), (400, True)])
def test_a_429_that_headers_foresaw_says_nothing_of_the_burst(world: World, left: int, halved: bool) -> None:
    """A provider that counts by the minute gives nothing back when the rate would, but allows no less than before."""
    press(world, 70)
    call(world, "first")
    world.level("first", rpm=Level(RPM, 300))
    drain(world, AUTO)
    before = world.burst(AUTO)
    world.pass_time(1)
    call(world, "told")
    world.level("told", rpm=Level(RPM, left))
    call(world, "refused")
    world.settle("refused", levels={"b": {"rpm": Level(RPM, 0)}}, throttles=(Throttle("b", 1.0),), outcome="neutral")
    assert world.burst(AUTO) == pytest.approx(before / 2 if halved else before)
    assert world.available(AUTO) <= 0.0


def test_headers_that_count_by_the_second_foresee_nothing(world: World) -> None:
    """The end of a second's quota is always near: a 429 there means that too many were sent at once."""
    press(world, 70)
    call(world, "told")
    world.level("told", rpm=Level(RPM, 9))
    before = world.burst(AUTO)
    call(world, "refused")
    world.settle("refused", levels={"b": {"rpm": Level(RPM, 0)}}, throttles=(Throttle("b", 0.5),), outcome="neutral")
    assert world.burst(AUTO) == pytest.approx(before / 2)


def test_headers_of_long_ago_foresaw_nothing(world: World) -> None:
    press(world, 70)
    call(world, "first")
    world.level("first", rpm=Level(RPM, 300))
    call(world, "told")
    world.level("told", rpm=Level(RPM, 4))
    for number in range(60):
        world.pass_time(0.2)
        call(world, f"c{number}")
    before = world.burst(AUTO)
    world.settle("c59", throttles=(Throttle("b", 1.0),), outcome="neutral")
    assert world.burst(AUTO) == pytest.approx(before / 2)


def test_after_a_long_wait_the_burst_starts_again(world: World) -> None:
    press(world, 70)
    before = world.burst(AUTO)
    world.run(throttled, Throttle("b", 20.0))
    assert world.burst(AUTO) == 1.0
    world.pass_time(20)
    press(world, 20)
    grown = world.burst(AUTO)
    assert 3.0 < grown < before, "it is not held at what it fell to"
    world.run(throttled, Throttle("b", 1.0))
    assert world.burst(AUTO) == 1.0, "nor by a short wait, while minutes are known to be counted"
    world.pass_time(301)
    press(world, 20)
    grown = world.burst(AUTO)
    world.run(throttled, Throttle("b", 1.0))
    assert world.burst(AUTO) == pytest.approx(grown / 2)


def test_headers_count_for_more_than_a_long_wait(world: World) -> None:
    press(world, 70)
    call(world, "told")
    world.level("told", rpm=Level(RPM, 400))
    before = world.burst(AUTO)
    world.run(throttled, Throttle("b", 20.0))
    assert world.burst(AUTO) == pytest.approx(before / 2)


def test_one_event_is_answered_once(world: World) -> None:
    """429s of calls that were sent before the first 429 was known halve nothing more."""
    for name in ("a", "b", "c"):
        call(world, name)
    press(world, 40)
    before = world.burst(AUTO)
    for name in ("a", "b", "c"):
        world.settle(name, throttles=(Throttle("b", 1.0),), outcome="neutral")
    assert world.burst(AUTO) == pytest.approx(before / 2)


def test_only_the_dimension_that_was_named(world: World) -> None:
    quota = Quota(rpm=RPM, tpm=60_000)
    for _ in range(100):
        world.pass_time(0.1)
        number = world.random.getrandbits(60)
        world.ask(f"p{number}", quota, costs={"rpm": 4, "tpm": 4_000}, max_wait=0.0)
    bursts = {state.name: state.burst for state in world.bucket(quota).dimensions}
    world.run(throttled, Throttle("b", 1.0, "tpm"))
    after = {state.name: state.burst for state in world.bucket(quota).dimensions}
    assert after["tpm"] == pytest.approx(max(1.0, bursts["tpm"] / 2))
    assert after["rpm"] == bursts["rpm"]


def test_an_overload_says_nothing_of_the_burst(world: World) -> None:
    """A 503 with a wait pauses, however long; the quota is as large as it was."""
    press(world, 20)
    burst = world.burst(AUTO)
    world.run(throttled, Throttle("b", 30.0, overload=True))
    assert world.denied("w", AUTO).reason == "pause"
    world.pass_time(30)
    assert world.burst(AUTO) == pytest.approx(burst)
    press(world, 3)
    assert world.burst(AUTO) > burst, "nothing holds it"


def test_a_pause_may_be_shorter_than_the_reported_wait(world: World) -> None:
    """It still shows that a minute is counted: the burst starts again, and may grow."""
    press(world, 20)
    world.run(throttled, Throttle("b", 30.0, longest=5.0))
    assert world.bucket(AUTO).paused_until == world.now + 5_000_000
    assert world.burst(AUTO) == 1
    world.pass_time(5)
    press(world, 5)
    assert world.burst(AUTO) > 1
    for _ in range(5):
        world.run(throttled, Throttle("b", None, longest=5.0))
        assert world.bucket(AUTO).paused_until <= world.now + 5_000_000
        world.pass_time(6)


def test_a_days_limit_says_nothing_of_a_minutes(world: World) -> None:
    press(world, 70)
    burst = world.burst(AUTO)
    world.run(throttled, Throttle("b", 30.0, "rpd"))
    assert world.denied("w", AUTO).reason == "pause"
    assert world.burst(AUTO) == pytest.approx(burst)
    world.pass_time(30)
    world.run(throttled, Throttle("b", 0.5))
    assert world.burst(AUTO) == pytest.approx(burst / 2), "no minute is counted: it does not begin anew"
