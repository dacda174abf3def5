"""How `burst = "auto"` learns from headers and from demand. test_refusals.py has 429s."""

import pytest

from limits.bucket import Quota
from limits.reservation import Admitted, Denied, Impossible, Level, Throttle
from tests.support.provider_feedback import observe, throttled
from tests.unit.limits.bursts import AUTO, FIXED, RPM, call, drain, press
from tests.unit.limits.world import World


def test_begins_with_one_second(world: World) -> None:
    assert drain(world, AUTO) == 10


def test_grows_while_there_is_demand(world: World) -> None:
    press(world, 5)
    slow = world.burst(AUTO)
    assert 2.0 < slow < 4.0
    press(world, 60)
    assert world.burst(AUTO) == 60.0


def test_grows_faster_if_headers_report_what_is_left(world: World) -> None:
    call(world, "told")
    world.level("told", rpm=Level(RPM, 599))
    press(world, 8)
    assert world.burst(AUTO) > 15.0


def test_grows_no_further_than_headers_ever_reported(world: World) -> None:
    """A provider that counts by the second never has more left than a second's share."""
    call(world, "told")
    world.level("told", rpm=Level(RPM, 30))
    press(world, 30)
    assert world.burst(AUTO) == 3.0


def test_grows_slowly_if_headers_report_only_the_limit(world: World) -> None:
    call(world, "told")
    world.level("told", rpm=Level(RPM, None))
    press(world, 5)
    assert 2.0 < world.burst(AUTO) < 4.0


def test_does_not_grow_without_demand(world: World) -> None:
    for number in range(50):
        world.pass_time(1)
        call(world, f"r{number}")
    assert world.burst(AUTO) == 1.0


def test_a_fixed_burst_stays(world: World) -> None:
    press(world, 20, FIXED)
    assert world.burst(FIXED) == 5.0
    world.run(throttled, Throttle("b", 0.5))
    assert world.burst(FIXED) == 5.0


def test_what_is_learned_is_shared_and_survives(world: World) -> None:
    press(world, 60)
    successor = World(world.client, seed=1)
    successor.now = world.now + 3_600_000_000
    assert successor.burst(AUTO) == 60.0
    assert drain(successor, AUTO) == 600


def test_impossible_is_judged_by_the_configured_limit_only(world: World) -> None:
    call(world, "told")
    world.level("told", rpm=Level(5, None))
    world.pass_time(100)
    answer = world.ask("large", AUTO, costs={"rpm": 6}, max_wait=0.0)
    assert isinstance(answer, Admitted)
    assert world.ask("larger", AUTO, costs={"rpm": RPM + 1}) == Impossible("b", "rpm", RPM + 1, RPM)


def test_a_full_bucket_sends_a_request_larger_than_the_burst(world: World) -> None:
    quota = Quota(tpm=6_000, headroom=1.0, burst=1.0)
    assert world.admitted("large", quota, costs={"tpm": 3_000}).wait == 0
    denied = world.denied("next", quota, costs={"tpm": 3_000}, max_wait=0.0)
    assert denied.reason == "tpm"
    assert denied.retry_in == pytest.approx(30.0, abs=1e-3)


def test_no_call_is_booked_far_ahead_while_headers_show_room(world: World) -> None:
    """A booked call is not sent sooner when the burst has grown; a call that asks again is."""
    call(world, "told")
    world.level("told", rpm=Level(RPM, 300))
    waits = []
    while isinstance(answer := world.ask(f"b{len(waits)}", AUTO, max_wait=5.0), Admitted):
        waits.append(answer.wait)
    assert 0.1 < max(waits) <= 0.25
    assert isinstance(answer, Denied)
    assert answer.opens_in == pytest.approx(0.125, abs=0.11), "an eighth of a second before it could be booked"
    waits = [world.denied("far", AUTO, costs={"rpm": 40}, max_wait=5.0, for_waitlist=line) for line in (False, True)]
    assert waits[0].opens_in == pytest.approx(1.1, abs=0.1)
    assert waits[1].opens_in == 0.25, "who stands in line asks again soon: others' answers may have shown more"


def test_a_burst_that_grows_makes_no_room_that_headers_do_not_show(world: World) -> None:
    call(world, "much")
    world.level("much", rpm=Level(RPM, 300))
    press(world, 3)
    call(world, "little")
    world.level("little", rpm=Level(RPM, 30))
    went, before = 0, world.burst(AUTO)
    for _ in range(30):
        world.pass_time(0.1)
        went += drain(world, AUTO)
    assert world.burst(AUTO) > before + 2.0
    assert 50 <= went <= 60, "what was left, and three seconds of the rate"


def test_a_burst_that_grows_after_a_rest_makes_no_room_for_the_rest(world: World) -> None:
    """The bucket was full for a while. The larger one holds the same amount until time fills it."""
    call(world, "told")
    world.level("told", rpm=Level(RPM, 300))
    world.pass_time(3)  # nothing is sure any more
    call(world, "one")
    world.denied("much", AUTO, costs={"rpm": RPM}, max_wait=0.0)
    world.pass_time(0.9)
    before, held = world.burst(AUTO), world.available(AUTO)
    assert held == pytest.approx(before * RPM / 60)
    call(world, "two")
    assert world.burst(AUTO) > before + 1.0
    assert world.available(AUTO) <= held - 1 + 1e-3


def test_a_level_without_a_settlement_lets_a_burst_grow(world: World) -> None:
    call(world, "first")
    world.run(observe, "b", {"rpm": Level(RPM, 300)}, world.now)
    before = world.burst(AUTO)
    press(world, 3)
    assert world.burst(AUTO) > before + 1.0
