"""What a settlement gives back and charges, and buckets with few dimensions."""

import pytest

from limits.admission import sent, settle
from limits.bucket import Quota
from limits.reservation import Admitted, Candidate, Level, Settlement, Throttle
from tests.unit.limits.world import World

QUOTA = Quota(rpm=600, headroom=1.0, burst=1.0)  # ten a second


def test_unused_units_come_back_once(world: World) -> None:
    quota = Quota(tpm=60_000, headroom=1.0, burst=10.0)
    world.admitted("a", quota, costs={"tpm": 8_000}, send_at_once=True)
    assert world.available(quota, "tpm") == pytest.approx(2_000)
    world.settle("a", costs=({"tpm": 3_000},))
    assert world.available(quota, "tpm") == pytest.approx(7_000)
    # Five seconds later the bucket has refilled what the next call gives back.
    world.admitted("b", quota, costs={"tpm": 8_000}, send_at_once=True)
    world.pass_time(100)
    world.settle("b", costs=({"tpm": 0},))
    world.admitted("c", quota, costs={"tpm": 1}, send_at_once=True)
    assert world.available(quota, "tpm") == pytest.approx(9_999)


def test_an_overrun_becomes_debt(world: World) -> None:
    quota = Quota(tpm=60_000, headroom=1.0, burst=10.0)
    world.admitted("a", quota, costs={"tpm": 8_000}, send_at_once=True)
    world.settle("a", costs=({"tpm": 25_000},))
    assert world.available(quota, "tpm") == pytest.approx(-15_000)
    wait = world.denied("b", quota, costs={"tpm": 1_000}, max_wait=0.0).retry_in
    assert wait == pytest.approx(16.0)


def test_dimensions_missing_in_a_settlement_stay_charged(world: World) -> None:
    quota = Quota(rpm=60, tpm=60_000, headroom=1.0, burst=10.0)
    world.admitted("a", quota, costs={"rpm": 1, "tpm": 8_000}, send_at_once=True)
    world.run(settle, "a", "o", Settlement(costs=({"tpm": 0},), levels={"elsewhere": {"rpm": Level(1, 1)}}))
    assert world.available(quota, "rpm") == pytest.approx(9)
    assert world.available(quota, "tpm") == pytest.approx(10_000)


def test_nothing_but_a_cap_on_calls(world: World) -> None:
    """A quota without dimensions, and a call without costs."""
    world.admitted("a", Quota(concurrency=1), costs={})
    assert world.denied("b", Quota(concurrency=1), costs={}).reason == "concurrency"
    assert world.settle("a", costs=({},)) == "settled"
    world.admitted("b", Quota(concurrency=1), costs={})


def test_a_dimension_that_a_call_does_not_draw_on(world: World) -> None:
    quota = Quota(rpm=60, tpm=6_000, headroom=1.0, burst=1.0)
    world.admitted("all", quota, costs={"rpm": 1, "tpm": 100})
    assert world.denied("both", quota, costs={"rpm": 1, "tpm": 1}, max_wait=0.0).reason in {"rpm", "tpm"}
    assert world.admitted("neither", quota, costs={"rpm": 0}, max_wait=0.0).wait == 0


def test_a_call_that_draws_on_nothing(world: World) -> None:
    free = (Candidate("c", "a", ()),)
    world.admitted("a", candidates=free)
    assert world.run(sent, "a", "o").verdict == "sent"
    assert world.settle("a") == "settled"


def test_a_bucket_that_was_forgotten(world: World) -> None:
    """After eight days without calls the bucket is forgotten, and a refund changes nothing."""
    world.admitted("a", QUOTA)
    world.admitted("b", QUOTA, send_at_once=True)
    world.client.delete(world.keys.bucket("b"))
    assert world.run(sent, "a", "o").verdict == "sent"
    for name in "ab":
        assert world.settle(name, costs=({"rpm": 0},)) == "settled"
    assert world.available(QUOTA) == pytest.approx(10.0)
    assert world.bucket(QUOTA).in_flight == 0


def test_an_unknown_limit_is_forgotten_after_enough_answers(world: World) -> None:
    unknown = Quota()
    world.admitted("a", unknown, send_at_once=True)
    world.settle("a", throttles=(Throttle("b", 0.5),), outcome="neutral")
    world.pass_time(1)
    assert world.ask("x", unknown, max_wait=5.0) != world.ask("y", unknown, max_wait=5.0)
    for number in range(100):
        world.pass_time(1)
        name = f"r{number}"
        if isinstance(world.ask(name, unknown, max_wait=0.0, send_at_once=True), Admitted):
            world.settle(name)
    waits = {world.admitted(f"z{number}", unknown, max_wait=0.0).wait for number in range(5)}
    assert waits == {0.0}
