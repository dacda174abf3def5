"""When denied calls should ask again, so that no capacity stays unused."""

import heapq
import math

import pytest

from limits.admission import admit
from limits.bucket import Quota
from limits.reservation import Admitted, Candidate, Charge, Denied, Impossible, Level, Throttle
from tests.support.provider_feedback import throttled
from tests.unit.limits.world import SECOND, START, World

QUOTA = Quota(rpm=600, headroom=1.0, burst=1.0)  # ten a second


def test_two_thousand_denied_calls_ask_again_one_by_one(world: World) -> None:
    """All are denied at one moment and ask again when they should: less than twice a call, in the ideal time."""
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


def test_denials_are_spread_over_at_most_five_minutes(world: World) -> None:
    slow = Quota(rpm=60, headroom=1.0, burst=1.0)
    world.admitted("first", slow)
    waits = [world.denied(f"r{number}", slow, max_wait=0.0).retry_in for number in range(400)]
    assert all(wait is not None and wait <= 302 for wait in waits)
    assert waits[:3] == [pytest.approx(1.0), pytest.approx(2.0), pytest.approx(3.0)]
    assert len(set(waits)) == 400


def test_calls_wait_for_a_slot_as_long_as_calls_take(world: World) -> None:
    """Before any call has ended, calls take at least the time since the last event; then a little less
    than their mean duration. Either is divided by the concurrency.
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


def test_a_waitlist_for_concurrency_delays_no_other_caller(world: World) -> None:
    """A waitlist asks again at once when a call ends, and does not postpone other callers."""
    one = Quota(concurrency=1)
    world.admitted("a", one, send_at_once=True)
    world.pass_time(1)
    step = 0.8
    waits = [world.denied(f"l{number}", one, for_waitlist=True).retry_in for number in range(50)]
    assert waits == [pytest.approx(step)] * 50
    assert [world.denied(name, one).retry_in for name in "xyz"] == [pytest.approx(k * step) for k in (1, 2, 3)]


def test_a_waitlist_asks_again_soon_and_takes_no_turn(world: World) -> None:
    """A learned burst may have grown since."""
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
def test_no_call_is_booked_far_ahead_of_a_growing_burst(world: World, costs: dict[str, int], furthest: float) -> None:
    quota = Quota(rpm=600, tpm=600_000, headroom=1.0)
    world.admitted("one", quota, costs={"rpm": 1, "tpm": 1}, send_at_once=True)
    world.level("one", rpm=Level(600, 9), tpm=Level(600_000, 300_000))
    asked = [world.ask(f"r{number}", quota, costs=costs, max_wait=5.0) for number in range(70)]
    waits = [answer.wait for answer in asked if isinstance(answer, Admitted)]
    assert max(waits) == pytest.approx(furthest, abs=0.25)
    assert isinstance(asked[-1], Denied)


def test_denials_for_concurrency_are_spread_over_half_a_minute(world: World) -> None:
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


def test_the_first_candidate_that_can_be_sent_now_is_taken(world: World) -> None:
    fast, slow = Quota(rpm=60, headroom=1.0, burst=1.0), Quota(rpm=6, headroom=1.0, burst=10.0)
    ways = (target("fast", fast), target("slow", slow))
    assert world.admitted("a", candidates=ways).candidate == 0
    assert world.admitted("b", candidates=ways).candidate == 1
    # Neither can be sent now; "fast" can be sent first.
    third = world.admitted("c", candidates=ways[::-1], max_wait=60.0)
    assert third.candidate == 1
    assert third.wait == pytest.approx(1.0)
    # Nor within max_wait: ask again when the first of them can.
    for order in (ways, ways[::-1]):
        assert world.denied("d", candidates=order, max_wait=0.5).subject == "fast"


def test_impossible_only_if_every_candidate_is(world: World) -> None:
    small, large = Quota(rpm=5), Quota(rpm=500)
    assert world.ask("a", candidates=(target("small", small, 6),)) == Impossible("small", "rpm", 6, 5)
    assert world.admitted("b", candidates=(target("small", small, 6), target("large", large, 6))).candidate == 1
    world.run(throttled, Throttle("large", 100.0))
    assert world.denied("c", candidates=(target("small", small, 6), target("large", large, 6))).subject == "large"
