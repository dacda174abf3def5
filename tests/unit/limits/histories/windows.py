"""Histories of a bucket at a provider that holds a minute's quota: refilled by the rate, or as each call was used."""

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from limits.admission import sent, settle
from limits.bucket import Quota
from limits.reservation import Admitted, Denied, Level, Settlement, Throttle
from tests.unit.limits.histories.timeline import Timeline
from tests.unit.limits.world import SECOND, START, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from limits.client.scripts import Script

RPM, MINUTE = 60, 60 * SECOND

#: The longest time that a call takes to reach the provider (µs).
TRANSIT = SECOND // 4

#: So many calls at most leave while one is on its way to the provider, and one more that is not marked yet.
OVERTAKEN = 7


@dataclass
class Provider:
    """Sixty calls a minute: `sliding` counts the last minute, `linear` refills a bucket of `holds` calls. `silent`: it
    sends no headers.
    """

    kind: str
    holds: int = RPM
    others: int = 0
    silent: bool = False

    def __post_init__(self) -> None:
        self.log: deque[int] = deque()
        self.level, self.filled = float(self.holds), START
        self.refused: list[int] = []

    def left(self, now: int) -> int:
        """What is left."""
        if self.kind == "sliding":
            while self.log and self.log[0] <= now - MINUTE:
                self.log.popleft()
            return RPM - len(self.log)
        self.level = min(self.holds, self.level + RPM * (now - self.filled) / MINUTE)
        self.filled = now
        return math.floor(self.level)

    def other(self, now: int) -> None:
        """Count a call of another user, if there is room."""
        if self.left(now) >= 1:
            self.log.append(now)

    def take(self, now: int) -> float | None:
        """Count a call; return the seconds to wait if it is refused."""
        if self.left(now) < 1:
            self.refused.append(now)
            return math.ceil((self.log[0] + MINUTE - now) / SECOND if self.kind == "sliding" else 1 - self.level)
        if self.kind == "sliding":
            self.log.append(now)
        else:
            self.level -= 1
        return None


def windows(client: "redis.Redis", seed: int, scripts: "Mapping[str, Script] | None" = None) -> None:
    """A burst comes back a minute later, as it was sent; few calls are refused, whatever the provider holds."""
    world = World(client, seed, scripts, "windows")
    timeline = Timeline(world)
    pick = world.random
    provider = pick.choice(
        [
            Provider("sliding"),
            Provider("sliding"),
            Provider("sliding", others=15),
            Provider("linear"),
            Provider("linear", holds=15),
        ]
    )
    provider.silent = seed % 4 == 3
    quota = Quota(rpm=RPM, headroom="auto" if seed % 2 else 1.0)
    calls = 45 if provider.kind == "linear" and provider.holds == RPM else 110
    left: list[int] = []
    reached: list[int] = []
    booked = heard = 0
    latency = pick.choice([1, 5]) * SECOND
    waiting = deque(f"r{i}" for i in range(calls))

    def ask() -> None:
        """The waitlist asks for all."""
        nonlocal booked
        if not waiting:
            if world.now < START + 500 * SECOND:  # it may be refused and asked again
                timeline.at(world.now + 5 * SECOND, ask)
            return
        name = waiting[0]
        answer = world.ask(name, quota, max_wait=0.25, send_at_once=True, for_waitlist=True)
        if isinstance(answer, Denied):
            assert answer.retry_in is not None
            told = world.now - heard < 1.9 * SECOND and not (provider.others or provider.silent)
            told = told and len(provider.refused) <= 1
            if told and world.now > left[0] + MINUTE + SECOND and answer.reason != "pause":
                used = sum(1 for at in left if at > world.now - MINUTE - 2 * TRANSIT) + booked
                assert RPM - used <= OVERTAKEN, "what has come back is not used"
            timeline.at(world.now + max(SECOND // 50, math.ceil(answer.retry_in * SECOND)), ask)
            return
        assert isinstance(answer, Admitted)
        waiting.popleft()
        if answer.sent:
            leave(name, world.now)
        else:
            booked += 1
            timeline.at(answer.at, lambda: depart(name))
        timeline.at(world.now + SECOND // 20, ask)

    def depart(name: str) -> None:
        nonlocal booked
        answer = world.run(sent, name, "o")
        if answer.verdict == "wait":
            timeline.at(world.now + math.ceil(answer.wait * SECOND), lambda: depart(name))
        else:
            assert answer.verdict == "sent", answer
            booked -= 1
            leave(name, world.now)

    def leave(name: str, now: int) -> None:
        left.append(now)
        timeline.at(now + pick.randint(0, TRANSIT), lambda: reach(name))

    def reach(name: str) -> None:
        refused = provider.take(world.now)
        told = {} if provider.silent else {"b": {"rpm": Level(RPM, provider.left(world.now))}}
        if refused is None:
            reached.append(world.now)
            timeline.at(
                world.now + pick.randint(latency // 5, latency), lambda: answered(name, Settlement(levels=told))
            )
        else:
            waiting.appendleft(f"{name}'")
            settlement = Settlement(levels=told, throttles=(Throttle("b", refused),), outcome="neutral")
            timeline.at(world.now + SECOND // 50, lambda: world.run(settle, name, "o", settlement))

    def answered(name: str, settlement: Settlement) -> None:
        nonlocal heard
        world.run(settle, name, "o", settlement)
        heard = world.now

    for _ in range(provider.others):
        timeline.at(START + MINUTE + pick.randint(SECOND // 2, 2 * SECOND), lambda: provider.other(world.now))
    ask()
    timeline.until(START + 600 * SECOND)
    assert len(reached) == calls
    # The upper bound on refusals: each time that nothing is left, a few calls under way find out.
    found_out = [at for before, at in pairwise([-MINUTE, *provider.refused]) if at > before + TRANSIT]
    assert len(found_out) <= (3 if provider.others else 2 if provider.silent else 1), provider.refused
    assert len(provider.refused) <= 3 * len(found_out), provider.refused
    if provider.silent and provider.kind == "sliding":
        most = 100 if provider.others else 95
        assert reached[-1] <= START + most * SECOND, "the second minute is not used as the first one was"
