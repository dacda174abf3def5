"""A limit that nobody has configured is learned from its 429s: few of them, and the provider is kept busy."""

import math
from itertools import pairwise

import pytest

from limits.admission import Admitted, Denied, Level, Settlement, Throttle, sent, settle
from limits.bucket import Quota
from tests.unit.limits.histories.timeline import Timeline
from tests.unit.limits.world import SECOND, START, World

UNKNOWN = Quota()


@pytest.mark.parametrize(("rpm", "burst", "jobs"), [(300, 60, 500), (60, 1, 200), (1_200, 5, 600)])
def test_an_unknown_limit_is_found_and_used(world: World, rpm: int, burst: int, jobs: int) -> None:
    timeline = Timeline(world)
    speed = rpm / 60 / SECOND
    # The provider: a bucket that refills continuously and tells how long until the next request fits.
    arrival = float(START - burst * SECOND)
    refusals = finished = 0
    latest = START

    def come(name: str) -> None:
        answer = world.ask(name, UNKNOWN, costs={"rpm": 1}, max_wait=5.0)
        if isinstance(answer, Admitted):
            timeline.at(answer.at, lambda: leave(name))
        else:
            assert isinstance(answer, Denied)
            assert answer.retry_in is not None
            timeline.at(world.now + math.ceil(answer.retry_in * SECOND), lambda: come(name))

    def leave(name: str) -> None:
        departure = world.run(sent, name, "o")
        if departure.verdict == "wait":
            timeline.at(world.now + math.ceil(departure.wait * SECOND), lambda: leave(name))
        else:
            assert departure.verdict == "go"
            timeline.at(world.now + 20_000, lambda: arrive(name))

    def arrive(name: str) -> None:
        nonlocal arrival, refusals, finished, latest
        level = max(arrival, world.now - burst * SECOND)
        if level + 1 / speed <= world.now:
            arrival = level + 1 / speed
            finished += 1
            latest = world.now
            settlement = Settlement(costs=({"rpm": 1},))
        else:
            refusals += 1
            wait = (level + 1 / speed - world.now) / SECOND
            settlement = Settlement(costs=({},), outcome="neutral", throttles=(Throttle("b", wait),))
            timeline.at(world.now, lambda: come(f"{name}'"))
        world.run(settle, name, "o", settlement)

    for number in range(jobs):
        timeline.at(START + number * 5_000, lambda number=number: come(str(number)))  # type: ignore[misc]
    timeline.until(START + 3_600 * SECOND)
    assert finished == jobs
    ideal = max(0.0, (jobs - burst * rpm / 60) / speed / SECOND)
    took = (latest - START) / SECOND
    assert refusals <= 0.2 * jobs
    assert took <= 1.5 * ideal


def test_a_learned_pace_begins_with_the_limit_that_headers_told(world: World) -> None:
    world.admitted("a", UNKNOWN, costs={"rpm": 1})
    world.run(sent, "a", "o")
    told, levels = (Throttle("b", 1.0),), {"b": {"rpm": Level(600, 0)}}
    world.run(settle, "a", "o", Settlement(costs=({},), outcome="neutral", levels=levels, throttles=told))
    world.now += 2 * SECOND
    times = [world.admitted(str(number), UNKNOWN, costs={"rpm": 1}, max_wait=5.0).at for number in range(4)]
    assert {round((later - earlier) / SECOND, 3) for earlier, later in pairwise(times)} == {0.1}


def test_who_waits_for_a_learned_pace_looks_again_soon_however_many_wait(world: World) -> None:
    """The pace grows quicker meanwhile: a time to come back that counts with the present one is minutes too late."""
    world.admitted("a", UNKNOWN, costs={"rpm": 1})
    world.run(sent, "a", "o")
    world.run(settle, "a", "o", Settlement(costs=({},), outcome="neutral", throttles=(Throttle("b", 1.0),)))
    denials = [world.denied(str(number), UNKNOWN, max_wait=0.0) for number in range(500)]
    waits = [denial.retry_in or 0.0 for denial in denials]
    assert max(waits) <= 12.0
    assert waits[:3] == sorted(waits[:3])
