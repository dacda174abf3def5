"""Limits that headers state: taken over from answers, tested if only refusals state them, given up when disproved."""

import pytest

from limits.admission import settle
from limits.bucket import Quota
from limits.reservation import Admitted, Level, Settlement, Throttle
from tests.unit.limits.world import SECOND, World

NONE = Quota()
RPM = Quota(rpm=6000, headroom=1.0)


def limit(world: World, quota: Quota) -> int:
    """Requests a minute that are in force, 0 for any number."""
    return next((each.limit for each in world.bucket(quota).dimensions if each.name == "rpm"), 0)


def answered(world: World, quota: Quota, **levels: Level) -> None:
    name = f"a{world.now}"
    while not isinstance(world.ask(name, quota, send_at_once=True, max_wait=0.0), Admitted):
        world.pass_time(0.05)
    world.run(settle, name, "o", Settlement(levels={"b": levels} if levels else {}))


def refused(world: World, quota: Quota, stated: int, wait: float = 1.0) -> None:
    """A call meets a 429 whose headers state a limit."""
    name = f"r{world.now}"
    while not isinstance(world.ask(name, quota, send_at_once=True, max_wait=0.0), Admitted):
        world.pass_time(0.05)
    levels = {"b": {"rpm": Level(stated, 0, wait)}}
    settlement = Settlement(outcome="neutral", failed=True, levels=levels, throttles=(Throttle("b", wait),))
    world.run(settle, name, "o", settlement)


def test_a_limit_that_answers_state_holds_from_the_first_one_on(world: World) -> None:
    assert limit(world, NONE) == 0
    answered(world, NONE, rpm=Level(120, 119))
    (dimension,) = world.bucket(NONE).dimensions
    assert (dimension.name, dimension.limit, dimension.configured) == ("rpm", 120, 0)
    for number in range(200):
        world.ask(f"r{number}", NONE, send_at_once=True, max_wait=0.0)
    assert world.denied("more", NONE, max_wait=0.0).reason == "rpm"
    assert world.bucket(NONE).in_flight <= 120


def test_a_limit_that_answers_change_is_followed(world: World) -> None:
    answered(world, NONE, rpm=Level(120, 119))
    world.pass_time(2)
    answered(world, NONE, rpm=Level(600, 599))
    assert limit(world, NONE) == 600


def test_a_stated_limit_stands_beside_those_that_are_configured(world: World) -> None:
    quota = Quota(tpm=60_000)
    answered(world, quota, rpm=Level(120, 119))
    assert {each.name: each.limit for each in world.bucket(quota).dimensions} == {"rpm": 120, "tpm": 60_000}
    world.admitted("r", quota, costs={"tpm": 10})
    assert world.settle("r", costs=({"tpm": 5},)) == "settled"


def test_a_limit_that_answers_stop_stating_ends(world: World) -> None:
    answered(world, NONE, rpm=Level(120, 119))
    world.pass_time(200)
    answered(world, NONE)
    assert limit(world, NONE) == 120
    world.pass_time(101)
    answered(world, NONE)
    assert limit(world, NONE) == 0
    for number in range(500):
        world.admitted(f"r{number}", NONE, send_at_once=True)


def test_a_configured_limit_stays_when_answers_state_none_any_more(world: World) -> None:
    answered(world, RPM, rpm=Level(6000, 5999))
    world.pass_time(400)
    answered(world, RPM)
    assert limit(world, RPM) == 6000


def test_a_limit_that_one_refusal_states_is_given_up_within_seconds(world: World) -> None:
    answered(world, RPM)
    world.pass_time(1)
    refused(world, RPM, 60)
    assert limit(world, RPM) == 60
    began = world.now
    while limit(world, RPM) != 6000:
        world.pass_time(1.01)
        answered(world, RPM)
        assert world.now - began < 12 * SECOND
    world.pass_time(100)
    answered(world, RPM)
    assert limit(world, RPM) == 6000


def test_one_that_refusals_state_again_and_again_is_tested_less_often(world: World) -> None:
    """A provider with a real limit that only its refusals state."""
    answered(world, RPM)
    held = []
    for _ in range(6):
        world.pass_time(1)
        refused(world, RPM, 60)
        began = world.now
        while limit(world, RPM) == 60:
            world.pass_time(1.01)
            answered(world, RPM)
        held.append((world.now - began) / SECOND)
    assert held == [pytest.approx(2 * 2**number, abs=2.1) for number in range(6)]


def test_refusals_of_one_burst_count_once(world: World) -> None:
    answered(world, RPM)
    world.pass_time(1)
    for name in ("x", "y", "z"):
        world.admitted(name, RPM, send_at_once=True)
    world.pass_time(0.1)
    levels = {"b": {"rpm": Level(60, 0, 1.0)}}
    for name in ("x", "y", "z"):
        settlement = Settlement(outcome="neutral", failed=True, levels=levels, throttles=(Throttle("b", 1.0),))
        world.run(settle, name, "o", settlement)
    world.pass_time(2.1)
    answered(world, RPM)
    assert limit(world, RPM) == 120


def test_a_limit_that_answers_state_is_not_doubted_for_a_refusal(world: World) -> None:
    answered(world, RPM, rpm=Level(60, 50))
    world.pass_time(1)
    refused(world, RPM, 60)
    world.pass_time(30)
    answered(world, RPM)
    assert limit(world, RPM) == 60
    world.pass_time(30)
    answered(world, RPM, rpm=Level(6000, 50))
    assert limit(world, RPM) == 6000


def test_a_fixed_window_reported_by_every_answer_meets_few_429s(world: World) -> None:
    """300 jobs at a provider that allows 120 in each minute of the clock, says what remains, and no reset."""
    used, minute, ended, refusals, calls = 0, -1, 0, 0, 0
    while ended < 300:
        world.pass_time(0.5)
        for _ in range(40):
            if ended >= 300:
                break
            name = f"c{calls}"
            answer = world.ask(name, NONE, send_at_once=True, max_wait=0.0)
            if not getattr(answer, "sent", False):
                break
            calls += 1
            if world.now // (60 * SECOND) != minute:
                used, minute = 0, world.now // (60 * SECOND)
            used += 1
            levels = {"b": {"rpm": Level(120, max(0, 120 - used))}}
            if used <= 120:
                world.run(settle, name, "o", Settlement(levels=levels))
                ended += 1
                continue
            refusals += 1
            throttle = (Throttle("b", None),)
            settlement = Settlement(outcome="neutral", failed=True, levels=levels, throttles=throttle)
            world.run(settle, name, "o", settlement)
    assert refusals <= 12
