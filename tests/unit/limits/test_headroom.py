"""How `headroom = "auto"` learns which part of a limit to use."""

import pytest

from limits.bucket import Quota
from limits.reservation import Denied, Level, Throttle
from tests.support.provider_feedback import observe, throttled
from tests.unit.limits.world import World

RPM = 60  # one a second
AUTO = Quota(rpm=RPM)


def part(world: World, quota: Quota = AUTO) -> float:
    """The part of the limit that is in force."""
    (dimension,) = world.bucket(quota).dimensions
    return round(dimension.rate * 60 / RPM, 4)


def answer(world: World, name: str, remaining: int | None, quota: Quota = AUTO) -> None:
    """Send a call and answer it."""
    assert world.admitted(name, quota, send_at_once=True, max_wait=0.0).sent
    world.pass_time(0.1)
    world.level(name, **({} if remaining is None else {"rpm": Level(RPM, remaining)}))


def use_a_minute(world: World, seconds: int, quota: Quota = AUTO) -> int:
    """For `seconds`, use all of a minute's bucket that refills; return the calls that were sent."""
    level, calls = float(RPM), 0
    for step in range(seconds * 2):
        for number in range(RPM):
            name = f"{step}-{number}"
            if isinstance(world.ask(name, quota, send_at_once=True, max_wait=0.0), Denied):
                break
            level, calls = level - 1, calls + 1
            world.level(name, rpm=Level(RPM, int(level)))
        world.pass_time(0.5)
        level = min(RPM, level + 0.5)
    return calls


def test_a_part_stays_unused_without_headers(world: World) -> None:
    answer(world, "first", None)
    assert part(world) == 0.97
    assert AUTO.least == 0.97


def test_all_is_used_if_headers_report_a_second(world: World) -> None:
    answer(world, "first", 1)
    assert part(world) == 1


def test_all_is_used_of_a_minute_that_has_refilled(world: World) -> None:
    answer(world, "first", RPM - 1)
    assert use_a_minute(world, 4) < 1.05 * RPM
    assert part(world) == 0.97, "it may count the last minute"
    use_a_minute(world, 10)
    assert part(world) == 1


def test_a_part_stays_unused_of_a_minute_that_returns_at_once(world: World) -> None:
    answer(world, "first", RPM - 1)
    use_a_minute(world, 4)
    world.pass_time(61)
    answer(world, "next", RPM - 1)
    use_a_minute(world, 4)
    assert part(world) == 0.97


@pytest.mark.parametrize("remaining", [1, RPM - 1], ids=["of a second", "of a minute"])
def test_a_429_makes_careful_for_a_while(world: World, remaining: int) -> None:
    answer(world, "first", remaining)
    if remaining > 1:
        use_a_minute(world, 14)
    assert part(world) == 1
    world.run(throttled, Throttle("b", 0.1))
    assert part(world) == 0.97
    world.pass_time(9.9)
    assert part(world) == 0.97
    world.pass_time(0.2)
    assert part(world) == 1


def test_a_long_wait_shows_that_a_minute_is_counted(world: World) -> None:
    answer(world, "first", RPM - 1)
    use_a_minute(world, 14)
    world.run(throttled, Throttle("b", 20.0))
    world.pass_time(60)
    use_a_minute(world, 20)
    assert part(world) == 0.97


def test_old_headers_prove_nothing(world: World) -> None:
    answer(world, "first", 1)
    world.pass_time(301)
    assert part(world) == 0.97
    world.run(observe, "b", {"rpm": Level(RPM, 1)}, world.now)
    assert part(world) == 1


def test_a_number_stays(world: World) -> None:
    quota = Quota(rpm=RPM, headroom=0.5)
    answer(world, "first", 1, quota)
    assert part(world, quota) == 0.5
    assert quota.least == 0.5


def test_a_wait_of_our_own_proves_nothing(world: World) -> None:
    """The fourth 429 in a row without a wait pauses for eight seconds, by our own choice."""
    answer(world, "first", RPM - 1)
    use_a_minute(world, 14)
    for _ in range(4):
        world.run(throttled, Throttle("b", None))
        world.pass_time(9)
    world.pass_time(10)
    assert part(world) == 1


def test_careful_until_ten_seconds_after_a_pause(world: World) -> None:
    answer(world, "first", 1)
    world.run(throttled, Throttle("b", 20.0))
    world.pass_time(29.9)
    assert part(world) == 0.97
    world.pass_time(0.2)
    assert part(world) == 1


def test_a_part_of_a_days_limit_is_always_left(world: World) -> None:
    quota = Quota(rpd=86_400)
    world.admitted("first", quota, costs={"rpd": 1}, send_at_once=True)
    world.level("first", rpd=Level(86_400, 2))
    (dimension,) = world.bucket(quota).dimensions
    assert dimension.rate == pytest.approx(0.97)


def test_tokens_that_were_reserved_and_given_back_prove_nothing(world: World) -> None:
    """Of a provider that counts the last minute three times the limit is reserved, and a tenth of it used."""
    quota = Quota(tpm=6_000)
    left = 6_000
    for number in range(180):
        name = f"r{number}"
        if isinstance(world.ask(name, quota, costs={"tpm": 100}, max_wait=0.0, send_at_once=True), Denied):
            break
        left -= 10
        world.settle(name, costs=({"tpm": 10},), levels={"b": {"tpm": Level(6_000, left)}})
        world.pass_time(0.3)
    (dimension,) = world.bucket(quota).dimensions
    assert dimension.rate == pytest.approx(97.0)


def test_calls_of_long_ago_prove_nothing(world: World) -> None:
    """After a rest headers are old until the first answer. Calls sent until then count when they were sent."""
    answer(world, "first", RPM - 1)
    use_a_minute(world, 4)
    world.pass_time(400)
    for number in range(20):  # no call has been answered yet
        world.admitted(f"slow{number}", AUTO, send_at_once=True, max_wait=0.0)
    world.pass_time(20)
    for number in range(20):
        world.level(f"slow{number}", rpm=Level(RPM, RPM - 20))
    world.pass_time(45)
    for number in range(50):
        name = f"late{number}"
        if isinstance(world.ask(name, AUTO, send_at_once=True, max_wait=0.0), Denied):
            break
        world.level(name, rpm=Level(RPM, RPM - number))
    assert part(world) == 0.97
