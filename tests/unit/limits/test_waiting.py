"""What those who must wait are told, and that no capacity is left unused meanwhile."""

import heapq
import math

import pytest

from limits.admission import admit, release, sent, settle
from limits.bucket import Quota
from limits.reservation import Admitted, Candidate, Charge, Denied, Impossible, Level, Settlement, Throttle
from tests.support.provider_feedback import throttled
from tests.unit.limits.world import SECOND, START, World

QUOTA = Quota(rpm=600, headroom=1.0, burst=1.0)  # ten a second


def test_two_thousand_denied_calls_come_back_one_by_one(world: World) -> None:
    """All are denied within a moment, all come back when told: hardly twice a call, and in the ideal time."""
    calls, asks, ends = 2_000, 0, 0
    quota = Quota(rpm=6_000, headroom=1.0, burst=1.0)  # a hundred a second: twenty seconds of work
    due = [(START + number * 50, f"r{number}") for number in range(calls)]
    while due:
        first = due[0][0]
        group = [heapq.heappop(due) for _ in range(min(50, len(due))) if due[0][0] <= first + SECOND // 100]
        asking = []
        for time, name in group:
            world.now = time
            asking.append(world.call(admit, world.asking(name, quota, max_wait=0.5, send_at_once=True)))
        for (time, name), answer in zip(group, world.run_many(*asking), strict=True):
            asks += 1
            if isinstance(answer, Denied):
                assert answer.retry_in is not None
                heapq.heappush(due, (time + math.ceil(answer.retry_in * SECOND), name))
            else:
                assert isinstance(answer, Admitted)
                ends = max(ends, answer.at)
    assert asks <= 2.2 * calls
    assert ends - START <= 19.5 * SECOND
    assert world.bucket(quota).in_flight == calls


def test_hints_are_strung_out_over_five_minutes_at_most(world: World) -> None:
    slow = Quota(rpm=60, headroom=1.0, burst=1.0)
    world.admitted("first", slow)
    waits = [world.denied(f"r{number}", slow, max_wait=0.0).retry_in for number in range(400)]
    assert all(wait is not None and wait <= 302 for wait in waits)
    assert waits[:3] == [pytest.approx(1.0), pytest.approx(2.0), pytest.approx(3.0)]
    assert len(set(waits)) == 400


def test_calls_wait_for_a_slot_as_long_as_calls_take(world: World) -> None:
    """Where none has ended yet, they take at least as long as nothing has happened; then it is the mean of their times,
    a little less, divided among the places.
    """
    two = Quota(concurrency=2)
    for name in ("a0", "b0"):
        world.admitted(name, two, send_at_once=True)
    assert world.denied("x", two).retry_in == pytest.approx(0.8 * 0.1 / 2)
    world.pass_time(3)
    assert world.denied("x", two).retry_in == pytest.approx(0.8 * 3 / 2)
    for number in range(60):
        world.pass_time(10)
        for name in ("a", "b"):
            world.settle(f"{name}{number}")
            world.admitted(f"{name}{number + 1}", two, send_at_once=True)
    world.pass_time(100)
    assert world.denied("y", two).retry_in == pytest.approx(0.8 * 10 / 2, rel=0.02)


def test_who_hears_of_ends_keeps_nobody_else_waiting(world: World) -> None:
    """Those who wait where they hear of a call that ends ask often, and push back nobody's time to come back."""
    one = Quota(concurrency=1)
    world.admitted("a", one, send_at_once=True)
    world.pass_time(1)
    step = 0.8
    waits = [world.denied(f"l{number}", one, for_waitlist=True).retry_in for number in range(50)]
    assert waits == [pytest.approx(step)] * 50
    assert [world.denied(name, one).retry_in for name in "xyz"] == [pytest.approx(k * step) for k in (1, 2, 3)]


def test_who_stands_in_line_for_a_rate_looks_again_soon_and_takes_no_turn(world: World) -> None:
    """A burst that is learned may have grown meanwhile."""
    for number in range(60):
        world.admitted(f"f{number}", QUOTA, max_wait=5.0)
    waits = [world.denied(f"l{number}", QUOTA, for_waitlist=True, max_wait=5.0) for number in range(20)]
    assert [wait.retry_in for wait in waits] == [pytest.approx(0.1 + 0.8)] * 20
    (first, second) = (world.denied(name, QUOTA, max_wait=5.0) for name in "xy")
    assert (first.retry_in, first.opens_in) == (pytest.approx(0.1 + 2.5), pytest.approx(0.1 + 2.5))
    assert (second.retry_in, second.opens_in) == (pytest.approx(0.2 + 2.5), pytest.approx(0.1 + 2.5))


@pytest.mark.parametrize(
    ("costs", "furthest"),
    [
        pytest.param({"rpm": 1, "tpm": 1}, 5.0, id="requests, of which a second's worth is all there ever is"),
        pytest.param({"rpm": 0, "tpm": 4_000}, 0.25, id="tokens, of which there may be more: all could go sooner"),
    ],
)
def test_nobody_is_booked_far_ahead_who_waits_for_a_burst_that_may_grow(
    world: World, costs: dict[str, int], furthest: float
) -> None:
    quota = Quota(rpm=600, tpm=600_000, headroom=1.0)
    world.admitted("one", quota, costs={"rpm": 1, "tpm": 1}, send_at_once=True)
    world.level("one", rpm=Level(600, 9), tpm=Level(600_000, 300_000))
    asked = [world.ask(f"r{number}", quota, costs=costs, max_wait=5.0) for number in range(70)]
    waits = [answer.wait for answer in asked if isinstance(answer, Admitted)]
    assert max(waits) == pytest.approx(furthest, abs=0.25)
    assert isinstance(asked[-1], Denied)


def test_without_a_place_the_times_to_come_back_are_strung_out_over_half_a_minute(world: World) -> None:
    one = Quota(concurrency=1)
    world.admitted("a", one, send_at_once=True)
    world.pass_time(5)
    waits = [world.denied(f"r{number}", one).retry_in or 0.0 for number in range(40)]
    assert waits[:8] == [pytest.approx(4.0 * (k + 1)) for k in range(8)]
    assert all(0 <= wait <= 34 + 0.1 for wait in waits[8:])
    assert len(set(waits)) == 40


@pytest.mark.parametrize("max_wait", [0.0, 0.05, 0.1, 5.0])
def test_admitted_ahead_within_max_wait(world: World, max_wait: float) -> None:
    for number in range(10):
        world.admitted(f"f{number}", QUOTA)
    answer = world.ask("next", QUOTA, max_wait=max_wait)
    if max_wait < 0.1:
        assert isinstance(answer, Denied)
    else:
        assert isinstance(answer, Admitted)
        assert answer.wait == pytest.approx(0.1)


def target(name: str, quota: Quota, cost: int = 1) -> Candidate:
    return Candidate(name, name, (Charge(name, quota, {"rpm": cost}),))


def test_the_first_candidate_that_can_go_now_is_taken(world: World) -> None:
    fast, slow = Quota(rpm=60, headroom=1.0, burst=1.0), Quota(rpm=6, headroom=1.0, burst=10.0)
    ways = (target("fast", fast), target("slow", slow))
    assert world.admitted("a", candidates=ways).candidate == 0
    assert world.admitted("b", candidates=ways).candidate == 1
    # Neither can now; "fast" can soonest.
    third = world.admitted("c", candidates=ways[::-1], max_wait=60.0)
    assert third.candidate == 1
    assert third.wait == pytest.approx(1.0)
    # Nor within max_wait: back when the first of them can.
    for order in (ways, ways[::-1]):
        assert world.denied("d", candidates=order, max_wait=0.5).subject == "fast"


def test_impossible_only_if_every_candidate_is(world: World) -> None:
    small, large = Quota(rpm=5), Quota(rpm=500)
    assert world.ask("a", candidates=(target("small", small, 6),)) == Impossible("small", "rpm", 6, 5)
    assert world.admitted("b", candidates=(target("small", small, 6), target("large", large, 6))).candidate == 1
    world.run(throttled, Throttle("large", 100.0))
    assert world.denied("c", candidates=(target("small", small, 6), target("large", large, 6))).subject == "large"


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
        # Each refused request left after the one before was known.
        left = world.run(throttled, Throttle("b", wait), world.now + number + 1)
        assert left > 0
        world.now += 1
    assert left == pytest.approx(paused, abs=1e-3)
    answer = world.denied("r", QUOTA, max_wait=0.5)
    assert answer.reason == "pause"
    assert answer.retry_in == pytest.approx(paused - 0.25, abs=1e-3)


def test_a_refusal_that_told_no_wait_still_empties_the_bucket(world: World) -> None:
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
    # Asking again tells the same.
    assert world.run(sent, names[2], "o").wait == pytest.approx(2.0)


def test_what_is_booked_is_given_back_in_a_pause_that_nobody_waits_out(world: World) -> None:
    for number in range(10):
        world.admitted(f"f{number}", QUOTA, send_at_once=True)
    for number in range(30):
        world.admitted(f"b{number}", QUOTA)  # three seconds of the rate
    world.run(throttled, Throttle("b", 30.0))
    # Half of what it could be admitted ahead: it is there when the pause ends, and not three seconds later.
    assert world.denied("r", QUOTA, max_wait=5.0).opens_in == pytest.approx(30.1 - 2.5, abs=0.01)


def test_what_is_given_back_in_a_pause_is_used_when_it_ends(world: World) -> None:
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


def test_of_a_pause_only_what_never_left_comes_back(world: World) -> None:
    quota = Quota(tpm=60_000, headroom=1.0, burst=1.0)  # a thousand a second
    world.admitted("left", quota, costs={"tpm": 1_000}, send_at_once=True)
    world.run(throttled, Throttle("b", 10.0))
    before = world.available(quota, "tpm")
    assert world.settle("left", costs=({"tpm": 0},)) == "settled"
    assert world.available(quota, "tpm") == before


def test_a_late_departure_is_charged_when_it_leaves(world: World) -> None:
    for number in range(10):
        world.admitted(f"f{number}", QUOTA, send_at_once=True)
    names = [f"b{number}" for number in range(4)]
    for name in names:
        world.admitted(name, QUOTA)
    world.pass_time(60)  # the worker was held up
    assert world.available(QUOTA) == pytest.approx(10.0)
    for name in names[:3]:
        assert world.run(sent, name, "o").verdict == "sent"
    # All at once they would be more than a provider that counts by the second may have left of one.
    last = world.run(sent, names[3], "o")
    assert (last.verdict, last.wait) == ("wait", pytest.approx(0.05))
    assert world.run(sent, names[3], "o").verdict == "wait"
    world.pass_time(0.05)
    assert world.run(sent, names[3], "o").verdict == "sent"
    assert world.available(QUOTA) == pytest.approx(6.5)
    # Of what it does not use, that comes back which lies ahead: it left half of it ago.
    assert world.settle(names[0], costs=({"rpm": 0},)) == "settled"
    assert world.available(QUOTA) == pytest.approx(7.0)


def test_a_late_call_has_one_turn(world: World) -> None:
    """Late again, it goes: it has been counted at the time of its turn."""
    for number in range(10):
        world.admitted(f"f{number}", QUOTA, send_at_once=True)
    names = [f"b{number}" for number in range(8)]
    for name in names:
        world.admitted(name, QUOTA)
    world.pass_time(60)
    assert [world.run(sent, name, "o").verdict for name in names] == ["sent"] * 3 + ["wait"] * 5
    world.pass_time(5)
    assert [world.run(sent, name, "o").verdict for name in names[3:]] == ["sent"] * 5


def test_a_late_call_of_two_limits_waits_for_what_has_run_out(world: World) -> None:
    """A limit that it takes nothing of, or that has been forgotten, keeps nobody."""
    two = Quota(rpm=600, tpm=60_000, headroom=1.0, burst=1.0)
    for name in ("a", "b", "c", "d", "e"):
        world.admitted(f"f{name}", two, costs={"rpm": 2}, send_at_once=True)
    for name in ("a", "b", "c"):
        world.admitted(name, two, costs={"rpm": 2})
    world.pass_time(60)
    assert [world.run(sent, name, "o").verdict for name in ("a", "b", "c")] == ["sent", "sent", "wait"]
    world.admitted("d", two, costs={"rpm": 2})
    world.pass_time(60)
    world.client.delete(world.keys.bucket("b"))
    assert world.run(sent, "d", "o").verdict == "sent"


def test_unused_units_come_back_once(world: World) -> None:
    quota = Quota(tpm=60_000, headroom=1.0, burst=10.0)
    world.admitted("a", quota, costs={"tpm": 8_000}, send_at_once=True)
    assert world.available(quota, "tpm") == pytest.approx(2_000)
    world.settle("a", costs=({"tpm": 3_000},))
    assert world.available(quota, "tpm") == pytest.approx(7_000)
    # Five seconds later the bucket has refilled by what the next call gives back.
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


def test_dimensions_that_a_settlement_does_not_tell_stay_charged(world: World) -> None:
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
    """Nobody called for eight days: what is given back then finds nothing to go to."""
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
