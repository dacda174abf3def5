"""A server's clock that was ahead is set back: time goes on, nothing counts twice. Readers write nothing."""

import pytest

from limits.bucket import Quota
from limits.reservation import Denied
from limits.snapshot import ledger_page, snapshot
from tests.unit.limits.world import SECOND, World

QUOTA = Quota(rpm=60, headroom=1.0, burst=1.0)


@pytest.mark.parametrize("minutes", [0.2, 10, 600])
def test_a_quota_goes_on_after_the_clock_was_ahead(world: World, minutes: float) -> None:
    """At nine tenths of its rate, which no provider can mind."""
    world.admitted("before", QUOTA)
    world.pass_time(minutes * 60)
    first = world.admitted("ahead", QUOTA).at
    world.pass_time(-minutes * 60)
    world.denied("set back", QUOTA, max_wait=0.0)
    for number in range(1, 9):
        world.pass_time(1.0)
        assert world.admitted(f"r{number}", QUOTA).at == first + number * SECOND
    assert world.run(snapshot).ahead == pytest.approx((minutes * 60 - 0.8) * SECOND, abs=10)


def test_a_burst_is_not_given_out_again_when_the_clock_is_set_back(world: World) -> None:
    world.admitted("ahead", QUOTA)
    world.pass_time(-600)
    world.denied("the same moment", QUOTA, max_wait=0.0)
    assert world.client.exists(world.keys.clock_lead), "as limits/keys.py names it"
    world.pass_time(1.0)
    world.denied("nine tenths of a second", QUOTA, max_wait=0.0)
    world.pass_time(0.2)
    world.admitted("a second", QUOTA, max_wait=0.0)


def test_a_lead_ends_and_a_later_one_begins_again(world: World) -> None:
    def ahead(seconds: float) -> float:
        world.pass_time(seconds)
        world.ask(f"at {world.now}")
        return world.run(snapshot).ahead / SECOND

    for _ in range(2):
        assert ahead(3_600) == 0
        assert ahead(-9) == 9
        assert ahead(8) == pytest.approx(8.2, abs=1e-4)
        assert ahead(7) == pytest.approx(7.5, abs=1e-4)
        assert ahead(-2) == pytest.approx(9.5, abs=1e-4), "set back once more"
        assert ahead(10) == 0, "nothing was asked until it had caught up"


def test_what_a_lease_holds_ends_after_the_clock_was_ahead(world: World) -> None:
    one = Quota(concurrency=1)
    world.pass_time(600)
    world.admitted("a", one, lease=30.0)
    world.pass_time(-600)
    seconds = 0
    while isinstance(world.ask(f"b{seconds}", one, max_wait=0.0), Denied):
        world.pass_time(1)
        seconds += 1
    assert 30 <= seconds <= 36


def test_reading_writes_nothing(world: World) -> None:
    world.ask("a", QUOTA)
    before = {key: world.client.dump(key) for key in world.client.keys(f"{world.keys.prefix}*")}
    world.pass_time(60)
    assert world.run(snapshot, [("b", QUOTA)]).now == world.now
    world.run(ledger_page, [world.now // SECOND // 86_400])
    assert world.run(ledger_page, []).rows == {}
    assert {key: world.client.dump(key) for key in world.client.keys(f"{world.keys.prefix}*")} == before
