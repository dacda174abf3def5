"""A limit that isn't configured is learned from a few 429s, and the provider is kept busy."""

import math
import random
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest

from limits.admission import release, sent, settle
from limits.bucket import Quota
from limits.reservation import Admitted, Denied, Level, Settlement, Throttle
from tests.unit.limits.histories.timeline import Timeline
from tests.unit.limits.world import SECOND, START, World

UNKNOWN = Quota()


class Night:
    """Jobs at a provider with an unknown limit. `refuses`: the seconds for which a call is refused now, or 0."""

    def __init__(self, world: World, refuses: Callable[[int], float]) -> None:
        self.world = world
        self.refuses = refuses
        self.timeline = Timeline(world)
        self.refusals = self.finished = 0
        self.latest = START

    def run(self, jobs: int) -> None:
        for number in range(jobs):
            self.timeline.at(START + number * 5_000, partial(self._come, str(number)))
        self.timeline.until(START + 3_600 * SECOND)
        assert self.finished == jobs

    @property
    def took(self) -> float:
        return (self.latest - START) / SECOND

    def _come(self, name: str) -> None:
        answer = self.world.ask(name, UNKNOWN, costs={"rpm": 1}, max_wait=5.0)
        if isinstance(answer, Admitted):
            self.timeline.at(answer.at, partial(self._leave, name))
        else:
            assert isinstance(answer, Denied)
            assert answer.retry_in is not None
            self.timeline.at(self.world.now + math.ceil(answer.retry_in * SECOND), partial(self._come, name))

    def _leave(self, name: str) -> None:
        departure = self.world.run(sent, name, "o")
        if departure.verdict == "wait":
            self.timeline.at(self.world.now + math.ceil(departure.wait * SECOND), partial(self._leave, name))
        elif departure.verdict == "revoked":  # it was booked when the pace was faster
            assert self.world.run(release, name, "o").verdict == "settled"
            self._come(f"{name}'")
        else:
            assert departure.verdict == "sent"
            self.timeline.at(self.world.now + 20_000, partial(self._arrive, name))

    def _arrive(self, name: str) -> None:
        wait = self.refuses(self.world.now)
        if wait:
            self.refusals += 1
            settlement = Settlement(costs=({},), outcome="neutral", throttles=(Throttle("b", wait),))
            self.timeline.at(self.world.now, partial(self._come, f"{name}'"))
        else:
            self.finished += 1
            self.latest = self.world.now
            settlement = Settlement(costs=({"rpm": 1},))
        self.world.run(settle, name, "o", settlement)


@pytest.mark.parametrize(("rpm", "burst", "jobs"), [(300, 60, 500), (60, 1, 200), (1_200, 5, 600)])
def test_an_unknown_limit_is_found_and_used(world: World, rpm: int, burst: int, jobs: int) -> None:
    """The provider's bucket refills continuously, and its 429s say when the next request fits."""
    each = 60 / rpm * SECOND
    arrival = float(START - burst * SECOND)

    def refuses(now: int) -> float:
        nonlocal arrival
        level = max(arrival, now - burst * SECOND) + each
        if level <= now:
            arrival = level
        return max(0.0, level - now) / SECOND

    night = Night(world, refuses)
    night.run(jobs)
    ideal = max(0.0, (jobs - burst * rpm / 60) * each / SECOND)
    assert night.refusals <= 0.2 * jobs
    assert night.took <= 1.3 * ideal


def test_429s_at_random_slow_a_night_down_for_a_while_only(world: World) -> None:
    """There is no limit to find: each 429 pauses once, and then all calls continue."""
    choose = random.Random(5)
    left = 8

    def refuses(_now: int) -> float:
        nonlocal left
        if not left or choose.random() > 0.2:
            return 0.0
        left -= 1
        return 1.0

    night = Night(world, refuses)
    night.run(100)
    assert night.refusals == 8
    assert night.took <= 45.0


def test_idle_time_says_nothing_about_the_pace(world: World) -> None:
    def throttled(name: str) -> None:
        world.run(settle, name, "o", Settlement(costs=({},), outcome="neutral", throttles=(Throttle("b", 1.0),)))

    def calls(name: str) -> None:
        assert world.admitted(name, UNKNOWN, costs={"rpm": 1}, max_wait=5.0).at <= world.now
        assert world.run(sent, name, "o").verdict == "sent"

    calls("a")
    throttled("a")
    for number in range(10):
        world.now += 60 * SECOND
        calls(str(number))
    throttled("9")
    world.now += 2 * SECOND
    times = [world.admitted(f"then {number}", UNKNOWN, costs={"rpm": 1}, max_wait=5.0).at for number in range(3)]
    assert all(later - earlier < 0.9 * SECOND for earlier, later in pairwise(times))


def test_a_learned_pace_begins_with_the_reported_limit(world: World) -> None:
    world.admitted("a", UNKNOWN, costs={"rpm": 1})
    world.run(sent, "a", "o")
    told, levels = (Throttle("b", 1.0),), {"b": {"rpm": Level(600, 0)}}
    world.run(settle, "a", "o", Settlement(costs=({},), outcome="neutral", levels=levels, throttles=told))
    world.now += 2 * SECOND
    times = [world.admitted(str(number), UNKNOWN, costs={"rpm": 1}, max_wait=5.0).at for number in range(4)]
    assert {round((later - earlier) / SECOND, 3) for earlier, later in pairwise(times)} == {0.1}


def test_waiters_for_a_learned_pace_ask_again_soon(world: World) -> None:
    """The pace gets faster while they wait: a time computed from today's pace would be minutes too late."""
    world.admitted("a", UNKNOWN, costs={"rpm": 1})
    world.run(sent, "a", "o")
    world.run(settle, "a", "o", Settlement(costs=({},), outcome="neutral", throttles=(Throttle("b", 1.0),)))
    denials = [world.denied(str(number), UNKNOWN, max_wait=0.0) for number in range(500)]
    waits = [denial.retry_in or 0.0 for denial in denials]
    assert max(waits) <= 12.0
    assert waits[:3] == sorted(waits[:3])


def test_no_pace_is_learned_from_a_token_limit(world: World) -> None:
    for name, dimension in (("b", "rpd"), ("b", "tpm"), ("b", "rpm")):
        world.admitted("r", UNKNOWN, send_at_once=True)
        world.settle("r", throttles=(Throttle(name, 0.1, dimension),), outcome="neutral")
        world.pass_time(0.2)
        denied = [isinstance(world.ask(f"n{i}{dimension}", UNKNOWN, max_wait=0.0), Denied) for i in range(3)]
        assert any(denied) is (dimension == "rpm")


def test_no_pace_is_learned_if_another_bucket_limits_requests(world: World) -> None:
    for name, limited in (("b", True), ("b", False)):
        world.admitted("r", UNKNOWN, send_at_once=True)
        world.settle("r", throttles=(Throttle(name, 0.1, limited=limited),), outcome="neutral")
        world.pass_time(0.2)
        denied = [isinstance(world.ask(f"n{i}{limited}", UNKNOWN, max_wait=0.0), Denied) for i in range(3)]
        assert any(denied) is not limited
