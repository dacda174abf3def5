"""Histories of a bucket at a provider that counts by the second, or that seems to."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from limits.admission import release, sent, settle
from limits.bucket import Quota
from limits.reservation import Admitted, Denied, Level, Settlement, Throttle
from tests.unit.limits.histories.timeline import Timeline
from tests.unit.limits.world import SECOND, START, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from limits.client.scripts import Script

#: The longest time that a call takes to reach the provider (µs).
TRANSIT = SECOND // 60


@dataclass
class Provider:
    """`limit` units a minute: a sixtieth in each second, and seconds begin at `phase`. If `smooth`, at most a
    sixtieth at once, refilled continuously.
    """

    limit: int
    phase: int
    smooth: bool
    used: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.share = self.limit / 60
        self.level, self.filled = self.share, START

    def second(self, now: int) -> int:
        return (now - self.phase) // SECOND

    def left(self, now: int) -> float:
        if not self.smooth:
            return max(0.0, self.share - self.used[self.second(now)])
        self.level = min(self.share, self.level + self.share * (now - self.filled) / SECOND)
        self.filled = now
        return self.level

    def reset(self, now: int) -> float:
        """Seconds until all is available again, as headers report them."""
        if self.smooth:
            return math.ceil((self.share - self.left(now)) / self.share * 1000) / 1000
        return math.ceil((SECOND - (now - self.phase) % SECOND) / 1000) / 1000

    def fits(self, units: int, now: int) -> bool:
        nothing_used = not self.smooth and not self.used[self.second(now)]
        return units <= self.left(now) + 1e-9 or nothing_used

    def take(self, units: int, now: int) -> None:
        self.level = self.left(now) - units
        self.used[self.second(now)] += units


def seconds(client: "redis.Redis", seed: int, scripts: "Mapping[str, Script] | None" = None) -> None:
    """Nearly every second is used up, and few calls are refused, even if workers stall."""
    world = World(client, seed, scripts, "seconds")
    timeline = Timeline(world)
    pick = world.random
    rpm = pick.choice([300, 420, 1_000, 1_200])
    phase, smooth = START + pick.randint(0, SECOND), pick.random() < 0.2
    tokens = pick.random() < 0.5
    limits = {"rpm": rpm, "tpm": rpm * 400} if tokens else {"rpm": rpm}
    providers = {name: Provider(limit, phase, smooth) for name, limit in limits.items()}
    quota = Quota(**limits)
    trouble = pick.random() < 0.3  # workers stall, and give calls back
    calls = rpm * 8 // 60
    waiting = [f"r{i}" for i in range(calls)]
    costs = {name: {"rpm": 1, "tpm": pick.randint(100, 500)} if tokens else {"rpm": 1} for name in waiting}
    reached: list[int] = []
    refused: list[int] = []

    def ask() -> None:
        """The waitlist asks."""
        if not waiting:
            if len(reached) < calls:
                timeline.at(world.now + SECOND // 10, ask)
            return
        name = waiting[0]
        answer = world.ask(name, quota, costs=costs[name], max_wait=5.0, send_at_once=True, for_waitlist=True)
        if isinstance(answer, Denied):
            assert answer.retry_in is not None
            timeline.at(world.now + max(SECOND // 50, math.ceil(answer.retry_in * SECOND)), ask)
            return
        assert isinstance(answer, Admitted)
        waiting.pop(0)
        if answer.sent:
            leave(name)
        else:
            timeline.at(answer.at, lambda: depart(name))
        timeline.at(world.now + SECOND // 1000, ask)

    def depart(name: str) -> None:
        if trouble and pick.random() < 0.05:
            assert world.run(release, name, "o").verdict == "settled"
            again(name)
            return
        late = pick.choice([0.02, 0.3, 1.5]) if trouble and pick.random() < 0.1 else 0.002
        timeline.at(world.now + round(late * SECOND), lambda: go(name))

    def go(name: str) -> None:
        answer = world.run(sent, name, "o")
        if answer.verdict == "wait":
            timeline.at(world.now + math.ceil(answer.wait * SECOND), lambda: go(name))
        elif answer.verdict == "revoked":
            assert world.run(release, name, "o").verdict == "settled"
            again(name)
        else:
            assert answer.verdict == "sent", answer
            leave(name)

    def leave(name: str) -> None:
        timeline.at(world.now + pick.randint(TRANSIT // 4, TRANSIT), lambda: reach(name))

    def again(name: str) -> None:
        waiting.insert(0, f"{name}'")
        costs[f"{name}'"] = costs[name]

    def reach(name: str) -> None:
        fits = all(providers[each].fits(units, world.now) for each, units in costs[name].items())
        if fits:
            for each, units in costs[name].items():
                providers[each].take(units, world.now)
        now = world.now
        told = {each: Level(one.limit, math.floor(one.left(now)), one.reset(now)) for each, one in providers.items()}
        if fits:
            reached.append(now)
            latency = pick.randint(SECOND // 5, SECOND)
            timeline.at(now + latency, lambda: world.run(settle, name, "o", Settlement(levels={"b": told})))
        else:
            refused.append(now)
            again(name)
            throttle = Throttle("b", max(one.reset(now) for one in providers.values()))
            settlement = Settlement(levels={"b": told}, throttles=(throttle,), outcome="neutral")
            timeline.at(now + SECOND // 50, lambda: world.run(settle, name, "o", settlement))

    ask()
    timeline.until(START + 60 * SECOND)
    assert len(reached) == calls
    took = (reached[-1] - reached[0]) / SECOND
    if smooth:
        assert len(refused) <= 2, "a bucket that refills continuously is taken for one that counts seconds"
        return
    # Calls are sent evenly, whenever the provider's seconds begin. So the first answer to say that a second is over may
    # be a 429, and so may be one to a call that took long to reach the provider.
    assert len(refused) <= 4
    if trouble:
        return
    # All that fit one after the other: a call without room in a second goes into the next one.
    ideal, left = 0, {name: one.share for name, one in providers.items()}
    for name in (f"r{i}" for i in range(calls)):
        if any(units > left[each] for each, units in costs[name].items()):
            ideal, left = ideal + 1, {each: one.share for each, one in providers.items()}
        left = {each: left[each] - units for each, units in costs[name].items()}
    # Each 429 names a wait until its second ends, and 97 % of the limit is used for a while.
    assert took <= ideal + 1.75, (took, ideal)
