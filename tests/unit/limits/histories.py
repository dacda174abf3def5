"""Seeded random histories, each checked against what must hold whatever happens.

dimensions   units sent in any [a, b] stay within capacity + rate x (b - a); without refunds each answer equals
             the arithmetic of the rate limiter; nothing leaves during a pause; capacity is not left unused
budgets      spent and held equal an account kept beside; spent + held <= limit; nothing is held in the end
circuits     state equals an account kept beside: window, generations, one probe at a time
admissions   all of it at once: all or nothing, a denial writes nothing but the hint, repeating changes nothing

Each raises AssertionError where an invariant fails; `scripts` puts mutated scripts to the test.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from limits.admission import (
    Admitted,
    Answer,
    Ask,
    Candidate,
    Charge,
    Denied,
    Impossible,
    Settlement,
    Throttle,
    admit,
    release,
    renew,
    sent,
    settle,
    sweep,
)
from limits.bucket import PERIODS, Quota
from limits.budget import BudgetWindow
from limits.circuit import CircuitSettings
from limits.overview import CircuitState, Snapshot, ledger, snapshot
from limits.provider import latch, set_circuit
from limits.scripts import Script
from tests.unit.limits.world import SECOND, START, World

if TYPE_CHECKING:
    import redis

DAY: Final = 86_400
Scripts = Mapping[str, Script] | None


def rate(quota: Quota, name: str) -> float:
    """Units a µs that a quota lets through."""
    return quota.limits[name] * quota.headroom / (PERIODS[name] * SECOND)


def capacity(quota: Quota, name: str) -> float:
    """Units that may go out at once."""
    seconds = PERIODS[name] if PERIODS[name] == DAY else quota.burst
    assert seconds != "auto"
    return rate(quota, name) * float(seconds) * SECOND


def some_quota(world: World, **more: int) -> Quota:
    choose = world.random.choice
    burst: float = choose([1.0, 3.0, 10.0, 60.0])
    return Quota(
        rpm=choose([60, 600, 3000]), tpm=choose([60_000, 600_000]), rpd=choose([40, 5000]), burst=burst, **more
    )


def some_costs(world: World, quota: Quota) -> dict[str, int]:
    tokens = world.random.choice([0, 500, 2_000, 20_000])
    return {"rpm": 1, "tpm": min(tokens, quota.tpm or tokens), "rpd": 1}


# Dimensions


def arithmetic(client: "redis.Redis", seed: int, scripts: Scripts = None) -> None:
    """Every answer is the one that the rate limiter's formula gives."""
    world = World(client, seed, scripts, "arithmetic")
    quota = some_quota(world)
    arrival: dict[str, float] = dict.fromkeys(quota.limits, 0.0)
    for i in range(40):
        world.pass_time(world.random.expovariate(4.0))
        costs = some_costs(world, quota)
        at, reason = world.now, ""
        for name, cost in costs.items():
            if cost:
                width = cost / rate(quota, name)
                fits = math.ceil(arrival[name] + width - max(capacity(quota, name) / rate(quota, name), width))
                if fits > at:
                    at, reason = fits, name
        max_wait = world.random.choice([0.0, 1.0, 30.0])
        answer = world.ask(f"r{i}", quota, costs=costs, max_wait=max_wait)
        if at - world.now > max_wait * SECOND + 1:
            assert isinstance(answer, Denied), (answer, at - world.now)
            assert answer.reason == reason
            assert answer.retry_in is not None
            assert answer.retry_in >= (at - world.now) / SECOND - max_wait / 2 - 1e-5
        elif at - world.now < max_wait * SECOND - 1:
            assert isinstance(answer, Admitted), (answer, at - world.now)
            assert abs(answer.at - at) <= 2, (answer.at - at, reason)
            assert abs(answer.wait * SECOND - (answer.at - world.now)) <= 1
        if isinstance(answer, Admitted):
            for name, cost in costs.items():
                if cost:
                    arrival[name] = max(arrival[name], answer.at) + cost / rate(quota, name)


@dataclass(order=True)
class Event:
    time: int
    number: int
    act: Callable[[], None] = field(compare=False)


class Timeline:
    """What is still to happen, in the order of its time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: list[Event] = []
        self.numbers = itertools.count()

    def at(self, time: int, act: Callable[[], None]) -> None:
        heapq.heappush(self.events, Event(time, next(self.numbers), act))

    def until(self, end: int) -> None:
        """Let everything happen that is due by `end`."""
        while self.events and self.events[0].time <= end:
            event = heapq.heappop(self.events)
            self.world.now = max(self.world.now, event.time)
            event.act()
        self.world.now = max(self.world.now, end)


def dimensions(client: "redis.Redis", seed: int, scripts: Scripts = None) -> None:
    """Calls with waits, refunds, releases, urgent work and 429s, sent at the times that they are told."""
    world = World(client, seed, scripts, "dimensions")
    timeline = Timeline(world)
    pick = world.random
    quota = some_quota(world)
    refusals = pick.random() < 0.4
    urgency = pick.random() < 0.4
    departures: list[tuple[int, dict[str, int], str]] = []
    used: dict[str, dict[str, int]] = {}
    paused = 0

    def leave(name: str, costs: dict[str, int]) -> None:
        answer = world.run(sent, name, "o")
        if answer.verdict == "wait":
            assert answer.wait > 0
            timeline.at(world.now + math.ceil(answer.wait * SECOND), lambda: leave(name, costs))
            return
        assert answer.verdict == "go", answer
        depart(name, costs)

    def depart(name: str, costs: dict[str, int]) -> None:
        assert world.now >= paused, "left during a pause"
        departures.append((world.now, costs, name))
        used[name] = costs
        ends = world.now + round(pick.expovariate(0.5) * SECOND)
        timeline.at(ends, lambda: end(name, costs))

    def end(name: str, costs: dict[str, int]) -> None:
        nonlocal paused
        actual = {dimension: pick.randint(0, cost) for dimension, cost in costs.items()}
        throttles: tuple[Throttle, ...] = ()
        if refusals and pick.random() < 0.1:
            wait = pick.choice([0.5, 2.0, None])
            throttles = (Throttle("b", wait),)
            actual = costs
            paused = max(paused, world.now + round((wait or 1.0) * SECOND))
        settlement = Settlement(costs=(actual,), throttles=throttles, outcome="neutral" if throttles else "ok")
        assert world.run(settle, name, "o", settlement).verdict == "settled"
        assert world.run(settle, name, "o", settlement).verdict == "repeated"
        used[name] = actual

    largest = dict.fromkeys(quota.limits, 0)
    for i in range(60):
        timeline.until(world.now + round(pick.expovariate(6.0) * SECOND))
        costs = some_costs(world, quota)
        largest = {name: max(largest[name], costs[name]) for name in largest}
        at_once = pick.random() < 0.5
        answer = world.ask(
            f"r{i}",
            quota,
            costs=costs,
            max_wait=pick.choice([0.0, 2.0, 20.0]),
            urgent=urgency and pick.random() < 0.2,
            send_at_once=at_once,
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
    within_windows(quota, departures, used, largest)
    bucket = world.run(snapshot, [("b", quota)]).buckets[0]
    assert bucket.in_flight == 0


def within_windows(
    quota: Quota,
    departures: list[tuple[int, dict[str, int], str]],
    used: dict[str, dict[str, int]],
    largest: dict[str, int],
) -> None:
    """Units used by what left in any [a, b] are within capacity + rate x (b - a)."""
    for name in quota.limits:
        room = max(capacity(quota, name), largest[name])
        speed = rate(quota, name)
        # total - rate x time may rise by no more than the room, from any call's beginning to any later one's end
        total, lowest = 0.0, math.inf
        for time, _, call in departures:
            lowest = min(lowest, total - speed * (time - START))
            total += used[call][name]
            rise = total - speed * (time - START) - lowest
            assert rise <= room + 2 + speed * 10, (name, rise, room)


def conserving(client: "redis.Redis", seed: int, scripts: Scripts = None) -> None:
    """Denied calls that come back when told are all served, at next to the ideal time."""
    world = World(client, seed, scripts, "conserving")
    timeline = Timeline(world)
    rpm = world.random.choice([120, 600, 1200])
    quota = Quota(rpm=rpm, burst=world.random.choice([1.0, 5.0]), headroom=1.0)
    calls, asks, finished = world.random.randint(20, 60), 0, 0

    def attempt(name: str) -> None:
        nonlocal asks, finished
        asks += 1
        answer = world.ask(name, quota, max_wait=3.0, send_at_once=True)
        if isinstance(answer, Admitted):
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
    assert asks <= 4 * calls


# Budgets


@dataclass
class Money:
    """One reservation as the account kept beside sees it."""

    state: str
    amount: int
    till: int
    windows: tuple[str, ...]


def budgets(client: "redis.Redis", seed: int, scripts: Scripts = None) -> None:
    """Money over workflow, batch and global windows that turn, with leases that end, against plain bookkeeping."""
    world = World(client, seed, scripts, "budgets")
    pick = world.random
    turn = START + 6 * SECOND
    subjects = (
        BudgetWindow("workflow", 9_000_000_000, "one", turn, "two"),
        BudgetWindow("batch", 14_000_000_000, "total"),
        BudgetWindow("all", 20_000_000_000, "one", turn + 3 * SECOND, "two"),
    )
    limits = {budget.subject: budget.limit for budget in subjects}
    spent: dict[str, int] = {}
    entries: dict[str, Money] = {}
    columns = {"cost": 0, "failed_cost": 0, "presumed_cost": 0}

    def held() -> dict[str, int]:
        total: dict[str, int] = {}
        for money in entries.values():
            for window in money.windows if money.state in {"held", "sent"} else ():
                total[window] = total.get(window, 0) + money.amount
        return total

    def spend(money: Money, n: int) -> None:
        for window in money.windows:
            spent[window] = spent.get(window, 0) + n

    def expire() -> None:
        for money in entries.values():
            if money.state in {"held", "sent"} and money.till <= world.now:
                was_sent = money.state == "sent"
                money.state = "presumed" if was_sent else "expired"
                if was_sent:
                    spend(money, money.amount)
                    columns["presumed_cost"] += money.amount
                else:
                    money.amount = 0

    def request(name: str) -> None:
        amount = pick.randint(1, 2_000_000_000)
        lease = pick.choice([0.3, 2.0, 30.0])
        quota = Quota(rpm=pick.choice([120, 6000]), burst=1.0)
        answer = world.ask(name, quota, amount=amount, budgets=subjects, lease=lease, row="row", max_wait=3.0)
        expire()  # what was due has been swept before the answer was found
        if isinstance(answer, Denied):
            if answer.reason in {"budget", "budget_held"}:
                refused(answer, amount)
            return
        assert isinstance(answer, Admitted)
        windows = tuple(window_of(budget, answer.at) for budget in subjects)
        entries[name] = Money("held", amount, answer.at + round(lease * SECOND), windows)
        assert answer.lease_until == entries[name].till

    def refused(answer: Denied, amount: int) -> None:
        budget = next(budget for budget in subjects if budget.subject == answer.subject)
        windows = {window_of(budget, world.now), window_of(budget, world.now + 3 * SECOND)}
        holding = held()
        assert any(spent.get(w, 0) + holding.get(w, 0) + amount > budget.limit for w in windows)
        if answer.reason == "budget":
            assert any(spent.get(w, 0) + amount > budget.limit for w in windows)
            assert (answer.retry_in is None) == (not budget.until or world.now >= budget.until), answer

    def finish(name: str) -> None:
        money = entries[name]
        actual = pick.randint(0, money.amount) if money.amount else pick.randint(0, 1_000_000)
        failed = pick.random() < 0.2
        verdict = world.run(settle, name, "o", Settlement(actual, failed=failed)).verdict
        if money.state in {"held", "sent"}:
            assert verdict == "settled"
            spend(money, actual)
        else:
            assert verdict == "corrected"
            spend(money, actual - money.amount)
            if money.state == "presumed":
                columns["presumed_cost"] -= money.amount
        columns["failed_cost" if failed else "cost"] += actual
        money.state = "settled"
        again = world.run(settle, name, "o", Settlement(actual + 1)).verdict
        assert again == "repeated"

    for i in range(50):
        world.pass_time(pick.expovariate(6.0))
        chance = pick.random()
        live = [name for name, money in entries.items() if money.state != "settled"]
        if chance < 0.55 or not live:
            request(f"r{i}")
        else:
            name = pick.choice(live)
            if entries[name].state in {"held", "sent"} and entries[name].till <= world.now:
                world.run(sweep, 100)
                expire()
            if chance < 0.75:
                if world.run(sent, name, "o").verdict == "go" and entries[name].state == "held":
                    entries[name].state = "sent"
            elif chance < 0.8:
                lost = world.run(renew, [name], "o", 5.0).lost
                assert (name in lost) == (entries[name].state not in {"held", "sent"})
                if not lost:
                    entries[name].till = max(entries[name].till, world.now + 5 * SECOND)
            else:
                finish(name)
        world.run(sweep, 100)
        expire()
        compare_money(world, subjects, spent, held(), limits)
    world.pass_time(100)
    while world.run(sweep, 7).more:
        pass
    expire()
    compare_money(world, subjects, spent, {}, limits)
    assert world.run(snapshot).open_reservations == 0
    days = [world.now // SECOND // DAY - 1, world.now // SECOND // DAY]
    booked = dict.fromkeys(columns, 0)
    for row in world.run(ledger, days).values():
        for name in booked:
            booked[name] += row.get(name, 0)
    assert booked == columns


def window_of(budget: BudgetWindow, at: int) -> str:
    turned = budget.until > 0 and at >= budget.until
    return f"{budget.subject}:{budget.next_window if turned else budget.window}"


def compare_money(
    world: World,
    subjects: tuple[BudgetWindow, ...],
    spent: dict[str, int],
    held: dict[str, int],
    limits: dict[str, int],
) -> None:
    """Both windows of each budget are as the account has them."""
    both = [
        BudgetWindow(b.subject, b.limit, window) for b in subjects for window in {b.window, b.next_window or b.window}
    ]
    for budget in world.run(snapshot, budgets=both).budgets:
        name = f"{budget.subject}:{budget.window}"
        assert budget.spent == spent.get(name, 0), (name, budget.spent, spent.get(name, 0))
        assert budget.held == held.get(name, 0), (name, budget.held, held.get(name, 0))
        # A call that was swept unsent and went out nevertheless may add what no one held any more: a million at most.
        assert budget.spent + budget.held <= limits[budget.subject] + 60_000_000


# Circuits


@dataclass
class Mirror:
    """A circuit kept beside."""

    settings: CircuitSettings
    state: str = "closed"
    generation: int = 0
    opened: int = 0
    streak: int = 0
    probe: str = ""
    probe_till: int = 0
    ends: list[tuple[int, bool]] = field(default_factory=list)

    def slot(self, time: int) -> int:
        return int(time // (self.settings.window * SECOND / 10))

    def failed(self, now: int, *, failure: bool) -> bool:
        """Count an end; whether the circuit is to open."""
        self.ends = [(t, f) for t, f in self.ends if self.slot(t) > self.slot(now) - 10]
        self.ends.append((now, failure))
        bad = sum(f for _, f in self.ends)
        enough = len(self.ends) >= self.settings.volume and bad >= self.settings.ratio * len(self.ends)
        return failure and enough

    def open(self, now: int) -> None:
        self.state, self.opened = "open", now
        self.streak += 1
        self.generation += 1
        self.probe, self.ends = "", []


def circuits(client: "redis.Redis", seed: int, scripts: Scripts = None) -> None:
    """A provider that goes bad and comes back, with results that arrive late or never."""
    world = World(client, seed, scripts, "circuits")
    pick = world.random
    settings = CircuitSettings(window=5.0, volume=5, cooldown=1.0, longest_cooldown=8.0, probe_lease=3.0)
    mirror = Mirror(settings)
    flying: list[tuple[int, str, int]] = []
    bad = False
    for i in range(70):
        world.pass_time(pick.expovariate(4.0))
        if pick.random() < 0.06:
            bad = not bad
        name = f"r{i}"
        answer = world.ask(name, Quota(), send_at_once=True, circuit=settings)
        if mirror.state == "closed":
            assert isinstance(answer, Admitted), answer
            assert not answer.probe
        elif isinstance(answer, Admitted):
            assert answer.probe
            least = min(8.0, 2.0 ** (mirror.streak - 1)) * 0.8 * SECOND
            assert mirror.state == "half-open" or world.now >= mirror.opened + least
            assert not mirror.probe or world.now >= mirror.probe_till, "two probes at once"
            mirror.state, mirror.probe = "half-open", name
            mirror.probe_till = world.now + 3 * SECOND
            mirror.generation += 1
        else:
            assert isinstance(answer, Denied)
            assert answer.reason == "circuit"
            most = min(8.0, 2.0 ** (mirror.streak - 1)) * 1.2 * SECOND
            waiting = mirror.state == "open" and world.now < mirror.opened + most + 1
            assert waiting or (mirror.probe and world.now < mirror.probe_till), "shut for no reason"
        if isinstance(answer, Admitted):
            assert answer.generation == mirror.generation
            if pick.random() < 0.9:  # the others never end
                flying.append((world.now + round(pick.expovariate(1.0) * SECOND), name, answer.generation))
        for flight in [flight for flight in flying if flight[0] <= world.now]:
            flying.remove(flight)
            conclude(world, mirror, flight[1], flight[2], failure=bad and pick.random() < 0.9)
    state = circuit_state(world)
    assert state.state == mirror.state, (state, mirror)
    assert state.calls == len(mirror.ends) or mirror.state != "closed"


def conclude(world: World, mirror: Mirror, name: str, generation: int, *, failure: bool) -> None:
    """Settle a call and do the same in the mirror."""
    before = circuit_state(world)
    outcome = "failure" if failure else "ok"
    opened = world.run(settle, name, "o", Settlement(outcome=outcome, circuit=mirror.settings)).circuit_opened
    after = circuit_state(world)
    expected = False
    if generation != mirror.generation or (mirror.state == "half-open" and mirror.probe != name):
        assert (after.state, after.until, after.calls) == (before.state, before.until, before.calls), "a stale result"
    elif mirror.state == "half-open":
        mirror.probe = ""
        if failure:
            mirror.open(world.now)
            expected = True
        else:
            mirror.state = "closed"
            mirror.generation += 1
            mirror.streak -= 1
            mirror.ends = []
    elif mirror.failed(world.now, failure=failure):
        mirror.open(world.now)
        expected = True
    assert opened == expected
    assert after.state == mirror.state, (after, mirror)
    if mirror.state == "closed":
        assert (after.calls, after.failures) == (len(mirror.ends), sum(f for _, f in mirror.ends))


def circuit_state(world: World) -> CircuitState:
    return world.run(snapshot, circuits=["c"]).circuits[0]


# Everything at once


class Fleet:
    """Two targets behind one account's quota, a third elsewhere, a workflow's cap, and two budgets."""

    def __init__(self, world: World) -> None:
        choose = world.random.choice
        self.quotas = {
            "p/0": Quota(rpm=choose([300, 3000]), burst=5.0),
            "p/0/a": Quota(
                rpm=choose([120, 1200]), tpm=60_000, burst=choose([1.0, 10.0]), concurrency=choose([2, 5, None])
            ),
            "p/0/b": Quota(rpm=120, tpm=600_000, burst=choose([1.0, 10.0])),
            "q/0/c": Quota(rpm=60, burst=2.0, concurrency=3),
            "workflow/w": Quota(concurrency=choose([3, 8])),
        }
        self.budgets = (BudgetWindow("w", 3_000, "d1", START + 12 * SECOND, "d2"), BudgetWindow("all", 4_000, "total"))
        self.circuits = ["p/a", "p/b", "q/c"]
        self.accounts = ["p/0", "q/0"]

    def candidates(self, world: World) -> tuple[Candidate, ...]:
        tokens = world.random.choice([10, 1000, 8000, 70_000])
        ways = {
            "p/a": ("p/0", "p/0/a"),
            "p/b": ("p/0", "p/0/b"),
            "q/c": ("q/0/c",),
        }
        names = world.random.sample(self.circuits, world.random.randint(1, 3))
        amount = world.random.choice([1, 40, 200, 3_500])
        return tuple(
            Candidate(
                name,
                name[0] + "/0",
                tuple(
                    Charge(bucket, self.quotas[bucket], {"rpm": 1, "tpm": tokens})
                    for bucket in (*ways[name], "workflow/w")
                ),
                amount,
            )
            for name in names
        )

    def look(self, world: World) -> Snapshot:
        windows = [BudgetWindow(b.subject, b.limit, w) for b in self.budgets for w in (b.window, b.next_window) if w]
        return world.run(snapshot, list(self.quotas.items()), self.circuits, self.accounts, windows)


def admissions(client: "redis.Redis", seed: int, scripts: Scripts = None) -> None:
    """Routing, account-wide quotas, concurrency, latches, circuits, budgets and urgent work in one history."""
    world = World(client, seed, scripts, "admissions")
    fleet = Fleet(world)
    pick = world.random
    live: dict[str, tuple[Candidate, Admitted, int]] = {}
    latched: set[str] = set()
    settings = CircuitSettings(window=5.0, volume=4, cooldown=1.0)

    def request(name: str) -> None:
        candidates = tuple(replace(each, row="r") for each in fleet.candidates(world))
        urgent, lease = pick.random() < 0.15, pick.choice([0.5, 5.0, 60.0])
        wait = pick.choice([0.0, 1.0, 10.0])
        ask = Ask(
            name,
            "o",
            candidates,
            fleet.budgets,
            max_wait=wait,
            lease=lease,
            urgent=urgent,
            retry=pick.random() < 0.1,
            send_at_once=pick.random() < 0.5,
            circuit=settings,
        )
        world.run(sweep, 100)
        forget_ended()
        before = fleet.look(world)
        answer = world.run(admit, ask)
        after = fleet.look(world)
        if isinstance(answer, Admitted):
            check_admission(before, after, ask, answer)
            live[name] = (candidates[answer.candidate], answer, answer.lease_until)
            again = world.run(admit, ask)
            assert isinstance(again, Admitted)
            assert again.repeated
            assert (again.candidate, again.at, again.lease_until) == (answer.candidate, answer.at, answer.lease_until)
            other = world.run(admit, Ask(name, "thief", candidates))
            assert isinstance(other, Denied)
            assert other.reason == "held"
            assert fleet.look(world) == after, "repeating an admission changed something"
        else:
            check_refusal(before, after, ask, answer)

    def check_admission(before: Snapshot, after: Snapshot, ask: Ask, answer: Admitted) -> None:
        chosen = ask.candidates[answer.candidate]
        assert chosen.account not in latched
        assert answer.at - world.now <= ask.max_wait * SECOND
        for charge in chosen.charges:
            for dimension, limit in charge.quota.limits.items():
                assert charge.costs.get(dimension, 0) <= limit
        mine = {charge.bucket for charge in chosen.charges}
        for old, new in zip(before.buckets, after.buckets, strict=True):
            assert new.in_flight == old.in_flight + (new.bucket in mine), "calls in flight"
            limit = fleet.quotas[new.bucket].concurrency
            assert limit is None or new.in_flight <= limit
        assert after.open_reservations == before.open_reservations + 1
        at = {budget.subject: window_of(budget, answer.at) for budget in ask.budgets}
        for old_money, money in zip(before.budgets, after.budgets, strict=True):
            paying = at[money.subject] == f"{money.subject}:{money.window}"
            assert money.held == old_money.held + (chosen.amount if paying else 0)
            assert money.spent + money.held <= money.limit

    def check_refusal(before: Snapshot, after: Snapshot, ask: Ask, answer: Answer) -> None:
        def visible(state: Snapshot) -> object:
            plain = [(b.bucket, b.in_flight, b.paused_until, b.dimensions) for b in state.buckets]
            return plain, state.circuits, state.latches, state.budgets, state.open_reservations

        assert visible(after) == visible(before), "a denial changed something"
        assert not client.exists(world.keys.reservation(ask.id))
        if isinstance(answer, Impossible):
            assert answer.requested > answer.limit
        else:
            assert isinstance(answer, Denied)
            assert answer.retry_in is None or answer.retry_in >= 0

    def forget_ended() -> None:
        for name in [name for name, (_, _, till) in live.items() if till <= world.now]:
            del live[name]

    def act(name: str) -> None:
        candidate, answer, _ = live.pop(name)
        if not answer.sent and world.now >= answer.at and pick.random() < 0.8:
            departure = world.run(sent, name, "o")
            if departure.verdict == "revoked":
                world.run(release, name, "o")
                return
        used = tuple({"rpm": 1, "tpm": pick.randint(0, c.costs["tpm"])} for c in candidate.charges)
        outcome = pick.choice(["ok", "ok", "failure", "neutral"])
        settlement = Settlement(
            amount=pick.randint(0, candidate.amount),
            costs=used,
            outcome=outcome,  # type: ignore[arg-type]
            columns={"calls": 1},
            circuit=settings,
        )
        if pick.random() < 0.1:
            assert world.run(release, name, "o").verdict == "settled"
        else:
            assert world.run(settle, name, "o", settlement).verdict == "settled"
        settled = fleet.look(world)
        assert world.run(settle, name, "o", settlement).verdict == "repeated"
        assert world.run(release, name, "o").verdict == "repeated"
        assert fleet.look(world) == settled, "repeating a settlement changed something"

    for i in range(35):
        world.pass_time(pick.expovariate(3.0))
        chance = pick.random()
        if chance < 0.6 or not live:
            request(f"r{i}")
        elif chance < 0.64:
            account = pick.choice(fleet.accounts)
            if account in latched:
                latched.discard(account)
                client.delete(world.keys.latch(account))
            else:
                latched.add(account)
                assert world.run(latch, account, "pay the bill")
        elif chance < 0.67:
            world.run(set_circuit, pick.choice(fleet.circuits), pick.choice(["auto", "auto", "open"]))
        else:
            world.run(sweep, 100)
            forget_ended()
            if live:
                act(pick.choice(sorted(live)))
        state = fleet.look(world)
        assert state.open_reservations >= len(live)
    world.pass_time(200)
    while world.run(sweep, 3).more:
        pass
    end = fleet.look(world)
    assert end.open_reservations == 0
    assert all(bucket.in_flight == 0 for bucket in end.buckets)
    assert all(budget.held == 0 for budget in end.budgets)


HISTORIES: Final = (arithmetic, dimensions, conserving, budgets, circuits, admissions)


def seeds(count: int) -> Iterator[int]:
    """The seeds of a run of histories."""
    return iter(range(count))
