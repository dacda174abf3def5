"""Histories of one circuit and its retry budget."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from limits.admission import settle
from limits.bucket import Quota
from limits.circuit import CircuitSettings
from limits.reservation import Admitted, Denied, Settlement
from limits.snapshot import snapshot
from tests.unit.limits.world import SECOND, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from limits.client.scripts import Script


@dataclass
class Mirror:
    """A separate account of the circuit."""

    settings: CircuitSettings
    state: str = "closed"
    generation: int = 0
    opened: int = 0
    streak: int = 0
    cooldown: float = 1.0
    till: int = 0
    probe: str = ""
    probe_till: int = 0
    ends: list[tuple[int, bool]] = field(default_factory=list)
    saved: float = 3.0
    counted: int = 0

    def slot(self, time: int) -> int:
        return int(time // (self.settings.window * SECOND / 10))

    def failed(self, now: int, *, failure: bool) -> bool:
        """Count an end; return whether the circuit should open."""
        self.ends.append((now, failure))
        self.pass_time(now)
        bad = sum(f for _, f in self.ends)
        enough = len(self.ends) >= self.settings.volume and bad >= self.settings.ratio * len(self.ends)
        return failure and enough

    def pass_time(self, now: int) -> None:
        """Forget calls before the window."""
        self.ends = [(t, f) for t, f in self.ends if self.slot(t) > self.slot(now) - 10]

    def retries(self, now: int) -> float:
        """Retries that may be made now."""
        earned = self.settings.retries_per_second * (now - self.counted) / SECOND
        return min(self.settings.most_retries, self.saved + earned)

    def save(self, retries: float, now: int) -> None:
        self.saved, self.counted = min(self.settings.most_retries, retries), now

    def open(self, now: int) -> None:
        if self.state == "closed" and now - self.till > self.settings.longest_cooldown * SECOND:
            self.streak = 0
        self.cooldown = min(self.settings.longest_cooldown, self.settings.cooldown * 2.0**self.streak)
        self.state, self.opened = "open", now
        self.streak += self.cooldown < self.settings.longest_cooldown
        self.generation += 1
        self.probe, self.ends = "", []


def circuits(client: "redis.Redis", seed: int, scripts: "Mapping[str, Script] | None" = None) -> None:
    """A provider that fails and recovers, results that arrive late or never, and rationed retries."""
    world = World(client, seed, scripts, "circuits")
    pick = world.random
    settings = CircuitSettings(
        window=5.0,
        volume=5,
        cooldown=1.0,
        longest_cooldown=8.0,
        retries_per_call=0.2,
        retries_per_second=0.3,
        most_retries=3.0,
    )
    mirror = Mirror(settings)
    flying: list[tuple[int, str, int]] = []
    bad = False
    for i in range(60):
        world.pass_time(pick.expovariate(4.0) if pick.random() > 0.04 else 9.0)
        if pick.random() < 0.06:
            bad = not bad
        name = f"r{i}"
        retry = pick.random() < 0.5
        left = mirror.retries(world.now)
        if mirror.probe and world.now >= mirror.probe_till:
            mirror.probe = ""  # the next ask sweeps it up
        answer = world.ask(name, Quota(), send_at_once=True, circuit=settings, retry=retry, lease=3.0)
        if isinstance(answer, Denied) and answer.reason == "retry_budget":
            assert retry
            assert left < 1 + 1e-6
            assert answer.retry_in is not None
            assert answer.retry_in >= (1 - left) / settings.retries_per_second - 1e-5
            continue
        if retry and isinstance(answer, Admitted):
            assert left > 1 - 1e-6, "more retries than were earned"
            mirror.save(left - 1, world.now)
        if mirror.state == "closed":
            assert isinstance(answer, Admitted), answer
            assert not answer.probe
        elif isinstance(answer, Admitted):
            assert answer.probe
            least = mirror.cooldown * 0.8 * SECOND
            assert mirror.state == "half-open" or world.now >= mirror.opened + least
            assert not mirror.probe or world.now >= mirror.probe_till, "two probes at once"
            mirror.state, mirror.probe = "half-open", name
            mirror.probe_till = world.now + 3 * SECOND
            mirror.generation += 1
        else:
            assert isinstance(answer, Denied)
            assert answer.reason == "circuit"
            most = mirror.cooldown * 1.2 * SECOND
            waiting = mirror.state == "open" and world.now < mirror.opened + most + 1
            assert waiting or (mirror.probe and world.now < mirror.probe_till), "shut for no reason"
        if isinstance(answer, Admitted):
            assert answer.generation == mirror.generation
            if pick.random() < 0.9:  # the others never end
                flying.append((world.now + round(pick.expovariate(1.0) * SECOND), name, answer.generation))
        for flight in sorted(flight for flight in flying if flight[0] <= world.now):
            flying.remove(flight)
            conclude(world, mirror, flight[1], flight[2], failure=bad and pick.random() < 0.9)
    state = world.run(snapshot, circuits=["c"], circuit=settings).circuits[0]
    mirror.pass_time(world.now)
    assert state.state == mirror.state, (state, mirror)
    assert state.calls == len(mirror.ends) or mirror.state != "closed"


def conclude(world: World, mirror: Mirror, name: str, generation: int, *, failure: bool) -> None:
    """Settle a call, here and in the mirror."""
    settlement = Settlement(outcome="failure" if failure else "ok", circuit=mirror.settings)
    look = world.call(snapshot, circuits=["c"], circuit=mirror.settings)
    mirror.pass_time(world.now)
    first, settled, last = world.run_many(look, world.call(settle, name, "o", settlement), look)
    before, after = first.circuits[0], last.circuits[0]
    mirror.save(mirror.retries(world.now) + mirror.settings.retries_per_call, world.now)
    assert abs(after.retries_left - mirror.saved) < 1e-3
    expected = False
    if generation != mirror.generation or (mirror.state == "half-open" and mirror.probe != name):
        assert (after.state, after.until, after.calls) == (before.state, before.until, before.calls), "a stale result"
    elif mirror.state == "half-open":
        mirror.probe = ""
        if failure:
            mirror.open(world.now)
            expected = True
        else:
            mirror.state, mirror.till = "closed", world.now
            mirror.generation += 1
            mirror.streak = max(0, mirror.streak - 1)
            mirror.ends = []
    elif mirror.failed(world.now, failure=failure):
        mirror.open(world.now)
        expected = True
    assert settled.circuit_opened == expected
    assert after.state == mirror.state, (after, mirror)
    if expected:
        mirror.till = after.until
    if mirror.state == "closed":
        assert (after.calls, after.failures) == (len(mirror.ends), sum(f for _, f in mirror.ends))
