"""How calls are sent by a provider's seconds, once they are known."""

import pytest

from limits.admission import release, sent, settle
from limits.bucket import Quota
from limits.reservation import Admitted, Level, Settlement, Throttle
from tests.support.provider_feedback import throttled
from tests.unit.limits.second_counting import QUOTA, RPM, SHARE, ZERO, begin, booked, dense, learn, times
from tests.unit.limits.world import SECOND, START, World


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


@pytest.mark.parametrize("headroom", [0.97, 0.5])
def test_calls_are_sent_evenly_if_a_part_stays_unused(world: World, headroom: float) -> None:
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


def test_urgent_work_goes_between_evenly_sent_calls(world: World) -> None:
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
def test_an_unrelated_pause_keeps_the_seconds(world: World, waiting: int) -> None:
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
def test_a_pause_ends_in_an_unused_second(world: World, tpm: int | None) -> None:
    """The first 429 comes before it is known when a second begins. Headers report no tokens."""
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


def test_booked_calls_give_their_seconds_back_in_a_longer_pause(world: World) -> None:
    learn(world)
    times(world, 5 * SHARE)
    world.run(throttled, Throttle("b", 30.0, overload=True))
    for number in range(5 * SHARE):
        world.run(release, f"call{number}", "o")
    assert booked(world, "after", max_wait=60.0) == pytest.approx(31.02), "the pause ends late in a second"


def test_only_a_share_of_the_last_second_is_given_back(world: World) -> None:
    learn(world)
    times(world, SHARE + 2)
    world.run(release, "call0", "o")
    assert booked(world, "x") == pytest.approx(2.02 + 0.25 * 2 / 20)
    world.run(release, "call20", "o")
    assert booked(world, "y") == pytest.approx(2.02 + 0.25 * 2 / 20)


def test_a_punctual_call_is_sent_after_a_burst_fell(world: World) -> None:
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
