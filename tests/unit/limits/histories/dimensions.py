"""Histories of one bucket: the arithmetic of its answers, what is sent, and that no capacity stays unused."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limits.admission import release, sent, settle
from limits.bucket import Quota
from limits.reservation import Admitted, Denied, Settlement, Throttle
from limits.snapshot import snapshot
from tests.unit.limits.histories.quota import capacity, rate, some_costs, some_quota
from tests.unit.limits.histories.timeline import Timeline
from tests.unit.limits.world import SECOND, START, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from limits.client.scripts import Script


def arithmetic(client: "redis.Redis", seed: int, scripts: "Mapping[str, Script] | None" = None) -> None:
    """Every answer equals the rate limiter's formula, even with overruns and a clock that jumps back,
    after which time runs a tenth slower.
    """
    world = World(client, seed, scripts, "arithmetic")
    pick = world.random
    quota = some_quota(world)
    arrival: dict[str, float] = dict.fromkeys(quota.limits, 0.0)
    latest = seen = 0
    for i in range(30):
        world.pass_time(pick.expovariate(4.0) if pick.random() < 0.9 else -0.2)
        ahead = latest + math.floor(max(0, world.now - seen) * 0.9 + 0.5) if latest > world.now else 0
        latest = max(world.now, ahead)
        now, seen = latest, world.now
        costs = some_costs(world, quota)
        at, reason = now, ""
        for name, cost in costs.items():
            if cost:
                width = cost / rate(quota, name)
                fits = math.ceil(arrival[name] + width - max(capacity(quota, name) / rate(quota, name), width))
                if fits > at:
                    at, reason = fits, name
        max_wait = pick.choice([0.0, 1.0, 30.0])
        answer = world.ask(f"r{i}", quota, costs=costs, max_wait=max_wait, send_at_once=True)
        if at - now > max_wait * SECOND + 1:
            assert isinstance(answer, Denied), (answer, at - now)
            assert answer.reason == reason
            assert answer.retry_in is not None
            assert answer.retry_in >= (at - now) / SECOND - max_wait / 2 - 1e-5
        elif at - now < max_wait * SECOND - 1:
            assert isinstance(answer, Admitted), (answer, at - now)
            assert abs(answer.at - at) <= 2, (answer.at - at, reason)
            assert abs(answer.wait * SECOND - (answer.at - now)) <= 1
        if isinstance(answer, Admitted):
            for name, cost in costs.items():
                if cost:
                    arrival[name] = max(arrival[name], answer.at) + cost / rate(quota, name)
            if answer.sent and pick.random() < 0.2:
                used = {name: cost * pick.randint(1, 3) for name, cost in costs.items()}
                assert world.settle(f"r{i}", costs=(used,)) == "settled"
                for name, cost in costs.items():
                    if used[name] > cost:
                        arrival[name] = max(arrival[name], now) + (used[name] - cost) / rate(quota, name)


@dataclass
class SendPermit:
    """A call that was sent, and what it used."""

    time: int
    used: dict[str, int]


def dimensions(client: "redis.Redis", seed: int, scripts: "Mapping[str, Script] | None" = None) -> None:
    """Calls with waits, refunds, releases, urgent work and 429s, sent at their times."""
    world = World(client, seed, scripts, "dimensions")
    timeline = Timeline(world)
    pick = world.random
    # Large calls on a small burst are booked far ahead, which is where refunds and urgent work can go wrong.
    large = pick.random() < 0.3
    quota = Quota(tpm=600_000, burst=pick.choice([1.0, 3.0])) if large else some_quota(world)
    refusals = not large and pick.random() < 0.4
    urgency = pick.random() < 0.4
    refunds = pick.random() < 0.6
    longest = 1.0 if large else 0.5
    departures: dict[str, SendPermit] = {}
    paused = 0

    def leave(name: str, costs: dict[str, int]) -> None:
        answer = world.run(sent, name, "o")
        if answer.verdict == "wait":
            assert answer.wait > 0
            timeline.at(world.now + math.ceil(answer.wait * SECOND), lambda: leave(name, costs))
            return
        assert answer.verdict == "sent", answer
        depart(name, costs)

    def depart(name: str, costs: dict[str, int]) -> None:
        assert world.now >= paused, "left during a pause"
        departures[name] = SendPermit(world.now, costs)
        ends = world.now + round(pick.expovariate(longest) * SECOND)
        timeline.at(ends, lambda: end(name, costs))

    def end(name: str, costs: dict[str, int]) -> None:
        nonlocal paused
        actual = {dimension: pick.randint(0, cost) for dimension, cost in costs.items()} if refunds else costs
        throttles: tuple[Throttle, ...] = ()
        if refusals and pick.random() < 0.1:
            wait = pick.choice([0.5, 2.0, None])
            throttles = (Throttle("b", wait),)
            actual = costs
            paused = max(paused, world.now + round((wait or 1.0) * SECOND))
        settlement = Settlement(costs=(actual,), throttles=throttles, outcome="neutral" if throttles else "ok")
        ends = world.run_many(*[world.call(settle, name, "o", settlement)] * 2)
        assert [settled.verdict for settled in ends] == ["settled", "repeated"]
        departures[name].used = actual

    largest = dict.fromkeys(quota.limits, 0)
    for i in range(40):
        timeline.until(world.now + round(pick.expovariate(6.0) * SECOND))
        costs = {"tpm": pick.choice([500, 5_000, 20_000])} if large else some_costs(world, quota)
        largest = {name: max(largest[name], costs[name]) for name in largest}
        answer = world.ask(
            f"r{i}",
            quota,
            costs=costs,
            max_wait=20.0 if large else pick.choice([0.0, 2.0, 20.0]),
            urgent=urgency and pick.random() < 0.2,
            send_at_once=pick.random() < 0.5,
        )
        if isinstance(answer, Admitted):
            if answer.sent:
                depart(f"r{i}", costs)
            elif pick.random() < 0.1:
                assert world.run(release, f"r{i}", "o").verdict == "settled"
            else:
                timeline.at(answer.at, lambda name=f"r{i}", costs=costs: leave(name, costs))  # type: ignore[misc]
    timeline.until(world.now + 600 * SECOND)
    assert len(departures) >= 2
    within_windows(quota, list(departures.values()), largest)
    assert world.bucket(quota).in_flight == 0


def within_windows(quota: Quota, departures: list[SendPermit], largest: dict[str, int]) -> None:
    """Units of calls sent in any [a, b] are within capacity + rate x (b - a)."""
    for name in quota.limits:
        room = max(capacity(quota, name), largest[name])
        speed = rate(quota, name)
        # From any call's beginning to any later one's end, total - rate x time rises by at most the capacity.
        total, lowest = 0.0, math.inf
        for departure in departures:
            passed = speed * (departure.time - START)
            lowest = min(lowest, total - passed)
            total += departure.used[name]
            rise = total - passed - lowest
            assert rise <= room + 2 + speed * 10, (name, rise, room)


def conserving(client: "redis.Redis", seed: int, scripts: "Mapping[str, Script] | None" = None) -> None:
    """Denied calls that ask again in time are all served, almost in the ideal time; released units are used."""
    world = World(client, seed, scripts, "conserving")
    timeline = Timeline(world)
    rpm = world.random.choice([120, 600, 1200])
    quota = Quota(rpm=rpm, burst=world.random.choice([1.0, 5.0]), headroom=1.0)
    calls, asks, finished, in_vain = world.random.randint(15, 40), 0, 0, 0

    def attempt(name: str) -> None:
        nonlocal asks, finished, in_vain
        asks += 1
        answer = world.ask(name, quota, max_wait=0.5, send_at_once=True)
        if isinstance(answer, Admitted):
            if in_vain < calls / 4 and world.random.random() < 0.3:
                assert world.run(release, name, "o").verdict == "settled"
                in_vain += 1
                attempt(f"{name}'")
            else:
                finished = max(finished, answer.at)
        else:
            assert isinstance(answer, Denied)
            assert answer.retry_in is not None
            timeline.at(world.now + math.ceil(answer.retry_in * SECOND), lambda: attempt(name))

    for i in range(calls):
        timeline.at(START + world.random.randint(0, SECOND), lambda name=f"r{i}": attempt(name))  # type: ignore[misc]
    timeline.until(START + 600 * SECOND)
    assert finished > 0
    ideal = max(0.0, (calls - capacity(quota, "rpm")) / rate(quota, "rpm"))
    assert finished - START <= ideal + 2 * SECOND, (finished - START, ideal)
    assert asks - in_vain <= 2.5 * calls, "denied calls come back in vain"
    assert world.run(snapshot).open_reservations == calls
