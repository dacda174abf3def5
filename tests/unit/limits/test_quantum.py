"""Providers that count by the second: how it is learned when one begins, and how calls leave then."""

import pytest

from limits.admission import release, sent, settle
from limits.bucket import Quota
from limits.reservation import Admitted, Denied, Level, Settlement, Throttle
from tests.support.provider_feedback import throttled
from tests.unit.limits.world import SECOND, START, World

RPM = 1_200
SHARE = RPM // 60
QUOTA = Quota(rpm=RPM)


#: When the first call leaves in most of these tests, which have their second before that.
ZERO = START + SECOND


def begin(world: World, quota: Quota = QUOTA, *, phase: float = 0.0, calls: int = SHARE) -> None:
    """Let a second's worth leave, and be told a quarter of a second later that it ends a second after `phase`."""
    world.pass_time(0.05)
    for number in range(calls):
        assert world.admitted(f"first{number}", quota, send_at_once=True, max_wait=0.0).sent
    world.pass_time(0.25)
    for number in range(calls):
        world.level(f"first{number}", rpm=Level(quota.limits["rpm"], calls - 1 - number, 0.95 + phase))


def learn(world: World, quota: Quota = QUOTA, *, calls: int = SHARE) -> None:
    """That, and let another call leave and agree; a little is left of its second, in which nothing begins any more."""
    begin(world, quota, calls=calls)
    world.now = world.admitted("warm", quota).at
    assert world.run(sent, "warm", "o").verdict == "sent"
    world.level("warm", rpm=Level(quota.limits["rpm"], calls - 1, (ZERO + SECOND - world.now) / SECOND))
    world.now = ZERO + 9 * SECOND // 10


def booked(world: World, name: str, quota: Quota = QUOTA, since: int = ZERO, **options: float) -> float:
    """The time of a call's admission, in seconds."""
    return (world.admitted(name, quota, send_at_once=True, **options).at - since) / SECOND


def times(world: World, calls: int, quota: Quota = QUOTA, since: int = ZERO) -> list[float]:
    return [booked(world, f"call{number}", quota, since) for number in range(calls)]


def test_a_second_is_used_in_its_first_quarter(world: World) -> None:
    learn(world)
    found = times(world, 2 * SHARE)
    assert found[0] == pytest.approx(1.02)
    assert found[SHARE - 1] == pytest.approx(1.02 + 0.25 * 19 / 20)
    assert found[SHARE:] == pytest.approx([at + 1 for at in found[:SHARE]])


@pytest.mark.parametrize(("rpm", "share"), [(1_000, 16), (500, 8), (450, 7)])
def test_what_is_left_of_a_second_is_lost(world: World, rpm: int, share: int) -> None:
    quota = Quota(rpm=rpm)
    learn(world, quota, calls=share)
    found = times(world, 3 * share, quota)
    assert [int(at) for at in found] == [1] * share + [2] * share + [3] * share


def test_a_second_that_began_before_it_is_known_is_used(world: World) -> None:
    begin(world, phase=-0.9)
    assert times(world, 1, since=START) == [pytest.approx(0.3)]


def test_not_one_that_calls_have_left_in(world: World) -> None:
    begin(world, phase=-0.1)
    assert times(world, 1, since=START) == [pytest.approx(1.1)]


def test_calls_leave_later_while_all_that_is_known_is_of_calls_that_had_to_connect(world: World) -> None:
    begin(world)
    found = times(world, 2 * SHARE, since=START)
    assert found[0] == pytest.approx(1.2)
    world.now = START + round(found[0] * SECOND)
    assert world.run(sent, "call0", "o").verdict == "sent"
    world.level("call0", rpm=Level(RPM, 19, 0.9))  # it left 0.1 seconds sooner after its admission
    assert booked(world, "next", since=START) == pytest.approx(3.12)


@pytest.mark.parametrize("reset", [1.0, 2.0, 0.0])
def test_whole_seconds_are_rounded_and_tell_nothing(world: World, reset: float) -> None:
    for number in range(SHARE):
        world.admitted(f"first{number}", QUOTA, send_at_once=True, max_wait=0.0)
    world.pass_time(0.3)
    for number in range(SHARE):
        world.level(f"first{number}", rpm=Level(RPM, 19 - number, reset))
    world.pass_time(1)
    found = times(world, SHARE + 5)
    assert found[-1] - found[-2] == pytest.approx(0.05)


@pytest.mark.parametrize("headroom", [0.97, 0.5])
def test_where_a_part_is_left_calls_leave_evenly(world: World, headroom: float) -> None:
    """Of four calls a second 97 % are three, if only whole ones count."""
    begin(world, Quota(rpm=240), calls=4)
    assert [int(at) for at in times(world, 8, Quota(rpm=240), START)] == [1] * 4 + [2] * 4
    world.pass_time(9)
    quota = Quota(rpm=240, headroom=headroom)
    found = [booked(world, f"part{number}", quota) for number in range(9)]
    assert found[-1] - found[-2] == pytest.approx(0.25 / headroom)


def test_nothing_begins_in_the_last_part_of_a_second(world: World) -> None:
    learn(world)
    world.pass_time(9.95)
    assert booked(world, "y") == pytest.approx(11.02), "else it would be at once, at 10.85"
    world.now = ZERO + 19 * SECOND + 4 * SECOND // 10
    assert booked(world, "z") == pytest.approx(19.4)


def test_a_bucket_that_refills_continuously_is_none(world: World) -> None:
    for number in range(SHARE):
        world.admitted(f"first{number}", QUOTA, send_at_once=True, max_wait=0.0)
    world.pass_time(0.3)
    for number in range(SHARE):
        world.level(f"first{number}", rpm=Level(RPM, 19 - number, (number + 1) / 20))
    world.pass_time(0.7)
    found = times(world, SHARE + 5)
    assert found[-1] - found[-2] == pytest.approx(0.05), "they leave evenly"


def test_answers_that_leave_alike_tell_nothing(world: World) -> None:
    """Of a bucket that is next to full everything is back after the same time, whenever a call comes."""
    for number in range(6):
        world.admitted(f"first{number}", QUOTA, send_at_once=True, max_wait=0.0)
        world.level(f"first{number}", rpm=Level(RPM, 19, 0.5))
        world.pass_time(1)
    for number in range(SHARE):
        world.admitted(f"more{number}", QUOTA, send_at_once=True, max_wait=0.0)
    found = times(world, 5)
    assert found[4] - found[3] == pytest.approx(0.05)


def test_nothing_leaves_beyond_a_second_until_it_is_known(world: World) -> None:
    for number in range(SHARE):
        world.admitted(f"first{number}", QUOTA, send_at_once=True, max_wait=0.0)
    world.pass_time(0.3)
    denied = world.denied("more", QUOTA, for_waitlist=True)
    assert denied.retry_in == pytest.approx(0.25), "an answer may tell of more at any time"
    assert world.denied("another", QUOTA).retry_in == pytest.approx(0.25)
    world.level("first0", rpm=Level(RPM, 19, 0.9))
    assert isinstance(world.ask("more", QUOTA, for_waitlist=True), Denied), "one answer tells it of a bucket as well"
    world.pass_time(0.7)
    assert isinstance(world.ask("more", QUOTA), Admitted)


def test_whoever_is_told_of_no_end_leaves_at_once(world: World) -> None:
    for number in range(SHARE):
        world.admitted(f"first{number}", QUOTA, send_at_once=True, max_wait=0.0)
    world.pass_time(0.3)
    assert isinstance(world.ask("more", QUOTA), Denied)
    world.level("first0", rpm=Level(RPM, 1199))
    assert world.admitted("more", QUOTA, send_at_once=True).sent


def test_a_429_shows_that_something_else_holds(world: World) -> None:
    learn(world)
    for hold in (60, 120):
        world.pass_time(2)
        assert isinstance(world.ask(f"known{hold}", QUOTA, send_at_once=True), Admitted)
        world.pass_time(1.5)
        world.run(sent, f"known{hold}", "o")
        throttle = (Throttle("b", 0.1),)
        world.run(settle, f"known{hold}", "o", Settlement(throttles=throttle, outcome="neutral"))
        world.pass_time(hold - 1)
        tell(world, f"early{hold}")
        assert not dense(world, f"a{hold}")
        world.pass_time(6)
        tell(world, f"late{hold}")
        assert dense(world, f"b{hold}")


def tell(world: World, name: str) -> None:
    """Answers that agree on the end of a second, and leave much and little."""
    for number, left in enumerate((19, 0, 10, 10)):
        world.now = max(world.now, world.admitted(f"{name}{number}", QUOTA, max_wait=5.0).at)
        assert world.run(sent, f"{name}{number}", "o").verdict == "sent"
        world.level(f"{name}{number}", rpm=Level(RPM, left, 1.0 - (world.now + 1 - START) % SECOND / SECOND))


def dense(world: World, name: str) -> bool:
    """Whether calls leave in the first half of a second."""
    world.now += (99 * SECOND // 100 - (world.now - START)) % SECOND
    found = [booked(world, f"{name}-{number}") for number in range(2 * SHARE)]
    for number in range(2 * SHARE):
        world.run(release, f"{name}-{number}", "o")
    return max(at % 1 for at in found[SHARE:]) < 0.5


def test_urgent_work_goes_between_calls_that_leave_evenly(world: World) -> None:
    learn(world)
    assert dense(world, "before")
    world.pass_time(2)
    assert isinstance(world.ask("urgent", QUOTA, urgent=True, send_at_once=True), Admitted)
    assert not dense(world, "with")
    world.pass_time(61)
    assert dense(world, "after")


def test_a_call_whose_second_is_over_gets_another(world: World) -> None:
    learn(world)
    found = times(world, 2 * SHARE)
    world.now = ZERO + round((found[0] + 0.9) * SECOND)
    assert world.run(sent, "call0", "o").verdict == "sent", "its second is not over"
    world.now = ZERO + round((found[1] + 1.0) * SECOND)
    answer = world.run(sent, "call1", "o")
    assert answer.verdict == "wait"
    assert world.now / SECOND + answer.wait == pytest.approx(ZERO / SECOND + 3.02), "behind all that are booked"
    assert booked(world, "next") == pytest.approx(3.02 + 0.25 / 20)
    world.pass_time(answer.wait + 1)
    assert world.run(sent, "call1", "o").verdict == "sent", "it waits once"


def test_a_second_that_was_missed_twice_over_is_given_back(world: World) -> None:
    learn(world)
    times(world, 2 * SHARE)
    world.now = ZERO + 2 * SECOND + SECOND // 10
    answer = world.run(sent, "call0", "o")
    assert world.now / SECOND + answer.wait == pytest.approx(ZERO / SECOND + 3.02)
    world.run(release, "call0", "o")
    assert booked(world, "next") == pytest.approx(3.02)


def test_what_is_larger_than_a_second_gets_one_of_its_own(world: World) -> None:
    quota = Quota(rpm=RPM, tpm=6_000)
    assert world.admitted("large", quota, costs={"rpm": 1, "tpm": 150}, send_at_once=True).sent
    assert world.admitted("small", quota, costs={"rpm": 1, "tpm": 0}, send_at_once=True).sent
    world.pass_time(0.1)
    world.level("large", rpm=Level(RPM, 19, 0.9), tpm=Level(6_000, 90, 0.9))
    world.level("small", rpm=Level(RPM, 0, 0.9), tpm=Level(6_000, 0, 0.9))
    world.pass_time(3.75)
    assert booked(world, "next", quota, costs={"rpm": 1, "tpm": 150}) == pytest.approx(3.1)
    assert booked(world, "other", quota, costs={"rpm": 1, "tpm": 20}) == pytest.approx(4.1 + 0.25 / 2)


@pytest.mark.parametrize("waiting", [0, 5])
def test_a_pause_of_another_cause_leaves_the_seconds_whole(world: World, waiting: int) -> None:
    learn(world)
    found = times(world, waiting)
    world.run(throttled, Throttle("b", 4.4, overload=True))
    after = booked(world, "after", max_wait=30.0)
    assert after == pytest.approx(max([5.3, *(int(at + 4.4) + 1.02 for at in found)]))
    world.pass_time(9)
    assert isinstance(world.ask("later", QUOTA), Admitted)


def test_a_short_pause_does_not_make_room_in_a_second(world: World) -> None:
    learn(world)
    times(world, SHARE)
    world.now = ZERO + SECOND + SECOND // 3
    for number in range(SHARE):
        world.run(sent, f"call{number}", "o")
    world.run(throttled, Throttle("b", 0.1, overload=True))
    assert booked(world, "next") == pytest.approx(2.02)


@pytest.mark.parametrize("tpm", [None, 600_000])
def test_a_pause_ends_in_a_second_that_nobody_has_used(world: World, tpm: int | None) -> None:
    """The first 429 comes before it is known when a second begins. Of tokens nothing is told."""
    quota = Quota(rpm=RPM, tpm=tpm, headroom=1.0)
    for number in range(SHARE):
        world.admitted(f"first{number}", quota, send_at_once=True, max_wait=0.0)
    world.pass_time(0.2)
    world.run(throttled, Throttle("b", 1.05))
    for number in range(SHARE):
        world.level(f"first{number}", rpm=Level(RPM, 19 - number, 0.999))
    found = times(world, SHARE + 1, quota, START)
    assert found[0] == pytest.approx(1.25)
    assert max(found[:SHARE]) < 1.5
    assert found[SHARE] == pytest.approx(2.2, abs=0.01)


def test_what_is_booked_when_a_longer_pause_begins_gives_its_seconds_back(world: World) -> None:
    learn(world)
    times(world, 5 * SHARE)
    world.run(throttled, Throttle("b", 30.0, overload=True))
    for number in range(5 * SHARE):
        world.run(release, f"call{number}", "o")
    assert booked(world, "after", max_wait=60.0) == pytest.approx(31.02), "the pause ends late in a second"


def test_a_share_is_given_back_of_the_last_second_alone(world: World) -> None:
    learn(world)
    times(world, SHARE + 2)
    world.run(release, "call0", "o")
    assert booked(world, "x") == pytest.approx(2.02 + 0.25 * 2 / 20)
    world.run(release, "call20", "o")
    assert booked(world, "y") == pytest.approx(2.02 + 0.25 * 2 / 20)


def test_a_few_odd_answers_change_nothing(world: World) -> None:
    learn(world)
    for number in range(4):
        odd(world, f"odd{number}")
    assert dense(world, "same")
    odd(world, "fifth")
    assert not dense(world, "changed")


def test_a_call_in_time_leaves_though_a_burst_has_fallen_since(world: World) -> None:
    for number in range(SHARE):
        world.admitted(f"first{number}", QUOTA, send_at_once=True, max_wait=0.0)
    world.pass_time(1.5)
    for number in range(SHARE):
        world.admitted(f"more{number}", QUOTA, send_at_once=True)
    assert not world.admitted("x", QUOTA).sent
    for number in (1, 2, 3, SHARE - 2):
        world.level(f"first{number}", rpm=Level(RPM, SHARE - 1 - number, 0.999))
    assert isinstance(world.ask("y", QUOTA), Admitted)
    refused = Settlement(throttles=(Throttle("b", 0.01),), outcome="neutral")
    world.run(settle, "first0", "o", refused)
    world.pass_time(0.1)
    assert world.run(sent, "x", "o").verdict == "sent"


@pytest.mark.parametrize("off", [-0.005, 0.005])
def test_what_is_given_away_moves_with_the_second(world: World, off: float) -> None:
    """Answers tell its end a little earlier, or later: still as many as before have room in it."""
    quota = Quota(rpm=RPM, rpd=1_000_000)
    learn(world, quota)
    booked(world, "x", quota)
    world.now = ZERO + 102 * SECOND // 100
    assert world.run(sent, "x", "o").verdict == "sent"
    world.level("x", rpm=Level(RPM, 5, 0.98 + off))
    found = times(world, 2 * SHARE - 1, quota)
    assert [int(at) for at in found] == [1] * (SHARE - 1) + [2] * SHARE
    assert found[-SHARE] == pytest.approx(2.02 + max(off, 0.02 * off))


def odd(world: World, name: str) -> None:
    world.now = world.admitted(name, QUOTA, max_wait=9.0).at + 1
    assert world.run(sent, name, "o").verdict == "sent"
    phase = (world.now - START) % SECOND / SECOND
    world.level(name, rpm=Level(RPM, 5, (1.5 - phase) % 1))
    world.pass_time(3)


def test_headers_of_long_ago_tell_nothing(world: World) -> None:
    learn(world)
    world.pass_time(301)
    found = [world.admitted(f"old{number}", QUOTA, max_wait=5.0).at for number in range(2 * SHARE + 2)]
    assert found[-1] - found[-2] == pytest.approx(0.05 * SECOND / 0.97, rel=0.01)
