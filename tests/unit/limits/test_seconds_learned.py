"""How it is learned when a provider's seconds begin."""

import pytest

from limits.admission import sent, settle
from limits.bucket import Quota
from limits.reservation import Admitted, Denied, Level, Settlement, Throttle
from tests.unit.limits.second_counting import QUOTA, RPM, SHARE, ZERO, begin, booked, dense, learn, odd, tell, times
from tests.unit.limits.world import SECOND, START, World


def test_a_second_that_began_before_it_is_known_is_used(world: World) -> None:
    begin(world, phase=-0.9)
    assert times(world, 1, since=START) == [pytest.approx(0.3)]


def test_a_second_with_earlier_calls_is_not_used(world: World) -> None:
    begin(world, phase=-0.1)
    assert times(world, 1, since=START) == [pytest.approx(1.1)]


def test_calls_are_sent_later_until_a_warm_connection_agrees(world: World) -> None:
    begin(world)
    found = times(world, 2 * SHARE, since=START)
    assert found[0] == pytest.approx(1.2)
    world.now = START + round(found[0] * SECOND)
    assert world.run(sent, "call0", "o").verdict == "sent"
    world.level("call0", rpm=Level(RPM, 19, 0.9))  # sent 0.1 s after its admission
    assert booked(world, "next", since=START) == pytest.approx(3.12)


@pytest.mark.parametrize("reset", [1.0, 2.0, 0.0])
def test_whole_seconds_are_rounded_and_ignored(world: World, reset: float) -> None:
    for number in range(SHARE):
        world.admitted(f"first{number}", QUOTA, send_at_once=True, max_wait=0.0)
    world.pass_time(0.3)
    for number in range(SHARE):
        world.level(f"first{number}", rpm=Level(RPM, 19 - number, reset))
    world.pass_time(1)
    found = times(world, SHARE + 5)
    assert found[-1] - found[-2] == pytest.approx(0.05)


def test_a_bucket_that_refills_continuously_has_no_seconds(world: World) -> None:
    for number in range(SHARE):
        world.admitted(f"first{number}", QUOTA, send_at_once=True, max_wait=0.0)
    world.pass_time(0.3)
    for number in range(SHARE):
        world.level(f"first{number}", rpm=Level(RPM, 19 - number, (number + 1) / 20))
    world.pass_time(0.7)
    found = times(world, SHARE + 5)
    assert found[-1] - found[-2] == pytest.approx(0.05), "they leave evenly"


def test_answers_that_leave_the_same_prove_nothing(world: World) -> None:
    """An almost full bucket is full again after the same time, whenever a call comes."""
    for number in range(6):
        world.admitted(f"first{number}", QUOTA, send_at_once=True, max_wait=0.0)
        world.level(f"first{number}", rpm=Level(RPM, 19, 0.5))
        world.pass_time(1)
    for number in range(SHARE):
        world.admitted(f"more{number}", QUOTA, send_at_once=True, max_wait=0.0)
    found = times(world, 5)
    assert found[4] - found[3] == pytest.approx(0.05)


def test_only_a_seconds_worth_is_sent_until_it_is_known(world: World) -> None:
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


def test_without_a_reported_end_calls_are_sent_at_once(world: World) -> None:
    for number in range(SHARE):
        world.admitted(f"first{number}", QUOTA, send_at_once=True, max_wait=0.0)
    world.pass_time(0.3)
    assert isinstance(world.ask("more", QUOTA), Denied)
    world.level("first0", rpm=Level(RPM, 1199))
    assert world.admitted("more", QUOTA, send_at_once=True).sent


def test_a_429_disproves_the_seconds(world: World) -> None:
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


def test_a_few_odd_answers_change_nothing(world: World) -> None:
    learn(world)
    for number in range(4):
        odd(world, f"odd{number}")
    assert dense(world, "same")
    odd(world, "fifth")
    assert not dense(world, "changed")


@pytest.mark.parametrize("off", [-0.005, 0.005])
def test_used_shares_move_with_the_second(world: World, off: float) -> None:
    """Answers report its end a little earlier or later: the same number of calls has room in it."""
    quota = Quota(rpm=RPM, rpd=1_000_000)
    learn(world, quota)
    booked(world, "x", quota)
    world.now = ZERO + 102 * SECOND // 100
    assert world.run(sent, "x", "o").verdict == "sent"
    world.level("x", rpm=Level(RPM, 5, 0.98 + off))
    found = times(world, 2 * SHARE - 1, quota)
    assert [int(at) for at in found] == [1] * (SHARE - 1) + [2] * SHARE
    assert found[-SHARE] == pytest.approx(2.02 + max(off, 0.02 * off))


def test_old_headers_prove_nothing(world: World) -> None:
    learn(world)
    world.pass_time(301)
    found = [world.admitted(f"old{number}", QUOTA, max_wait=5.0).at for number in range(2 * SHARE + 2)]
    assert found[-1] - found[-2] == pytest.approx(0.05 * SECOND / 0.97, rel=0.01)
