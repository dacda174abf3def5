"""Histories of everything: routing, quotas, concurrency, blocked accounts, circuits, budgets and urgent work."""

from typing import TYPE_CHECKING

from limits.admission import admit, release, sent, settle, sweep
from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.circuit import CircuitSettings
from limits.client.scripts import Call
from limits.feedback import set_circuit
from limits.reservation import Admitted, Answer, Ask, Candidate, Charge, Denied, Impossible, Settlement
from limits.snapshot import Snapshot, snapshot
from tests.support.provider_feedback import block_account
from tests.unit.limits.histories.budgets import window_of
from tests.unit.limits.world import SECOND, START, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from limits.client.scripts import Script


class Fleet:
    """Two targets behind one account's quota, a third behind another, a workflow's cap, and two budgets."""

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
        falls = len(names) > 1 and world.random.random() < 0.3
        return tuple(
            Candidate(
                name,
                name[0] + "/0",
                tuple(
                    Charge(bucket, self.quotas[bucket], {"rpm": 1, "tpm": tokens})
                    for bucket in (*ways[name], "workflow/w")
                ),
                1 if falls and name == names[-1] else amount,
                "r",
                not_before=world.random.choice([0.0, 0.0, 0.0, 0.7]),
                fallback=falls and name == names[-1],
            )
            for name in names
        )

    def look(self, world: World) -> Call[Snapshot]:
        """A call that reads the state of everything."""
        windows = [BudgetWindow(b.subject, b.limit, w) for b in self.budgets for w in (b.window, b.next_window) if w]
        return world.call(snapshot, list(self.quotas.items()), self.circuits, self.accounts, windows)


def admissions(client: "redis.Redis", seed: int, scripts: "Mapping[str, Script] | None" = None) -> None:
    """Routing, account-wide quotas, concurrency, blocked accounts, circuits, budgets and urgent work."""
    world = World(client, seed, scripts, "admissions")
    fleet = Fleet(world)
    pick = world.random
    live: dict[str, tuple[Candidate, Admitted, int]] = {}
    latched: set[str] = set()
    shut: set[str] = set()
    settings = CircuitSettings(window=5.0, volume=4, cooldown=1.0)

    def request(name: str) -> None:
        candidates = fleet.candidates(world)
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
        admission, look = world.call(admit, ask), fleet.look(world)
        _, before, answer, after = world.run_many(world.call(sweep, 100), look, admission, look)
        forget_ended()
        if isinstance(answer, Admitted):
            check_admission(before, after, ask, answer)
            live[name] = (candidates[answer.candidate], answer, answer.lease_until)
            theft = world.call(admit, Ask(name, "thief", candidates))
            again, other, unchanged = world.run_many(admission, theft, look)
            assert isinstance(again, Admitted)
            assert again.repeated
            assert (again.candidate, again.at, again.lease_until) == (answer.candidate, answer.at, answer.lease_until)
            assert isinstance(other, Denied)
            assert other.reason == "held"
            assert unchanged == after, "repeating an admission changed something"
        else:
            check_refusal(before, after, ask, answer)

    def check_admission(before: Snapshot, after: Snapshot, ask: Ask, answer: Admitted) -> None:
        chosen = ask.candidates[answer.candidate]
        assert chosen.account not in latched
        assert chosen.circuit not in shut
        assert not chosen.not_before
        if chosen.fallback:
            assert all(no_money(before, candidate.amount) for candidate in ask.candidates if not candidate.fallback)
        assert answer.at - world.now <= ask.max_wait * SECOND
        for charge in chosen.charges:
            for dimension, limit in charge.quota.limits.items():
                assert charge.costs.get(dimension, 0) <= limit
        mine = {charge.bucket for charge in chosen.charges}
        for old, new in zip(before.buckets, after.buckets, strict=True):
            assert new.in_flight == old.in_flight + (new.bucket in mine), "calls in flight"
            limit = fleet.quotas[new.bucket].concurrency
            assert limit is None or new.in_flight <= limit
        draw = {charge.bucket: charge.costs for charge in chosen.charges}
        for old, new in zip(before.buckets, after.buckets, strict=True):
            for had, has in zip(old.dimensions, new.dimensions, strict=True):
                cost = draw.get(new.bucket, {}).get(has.name, 0)
                assert has.available <= had.available - cost + 1e-3, "a charge was not taken"
        assert after.open_reservations == before.open_reservations + 1
        at = {budget.subject: window_of(budget, answer.at) for budget in ask.budgets}
        for old_money, money in zip(before.budgets, after.budgets, strict=True):
            paying = at[money.subject] == f"{money.subject}:{money.window}"
            assert money.held == old_money.held + (chosen.amount if paying else 0)
            assert money.spent + money.held <= money.limit

    def no_money(before: Snapshot, amount: int) -> bool:
        return any(amount > money.limit - money.spent for money in before.budgets)

    def check_refusal(before: Snapshot, after: Snapshot, ask: Ask, answer: Answer) -> None:
        def visible(state: Snapshot) -> object:
            plain = [(b.bucket, b.in_flight, b.paused_until, b.dimensions) for b in state.buckets]
            return plain, state.circuits, state.blocked_accounts, state.budgets, state.open_reservations

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
        look = fleet.look(world)
        used = tuple({"rpm": 1, "tpm": pick.randint(0, c.costs["tpm"])} for c in candidate.charges)
        outcome = pick.choice(["ok", "ok", "failure", "neutral"])
        settlement = Settlement(
            amount=pick.randint(0, candidate.amount),
            costs=used,
            outcome=outcome,  # type: ignore[arg-type]
            columns={"calls": 1},
            circuit=settings,
        )
        ending, returning = world.call(settle, name, "o", settlement), world.call(release, name, "o")
        first = returning if pick.random() < 0.1 else ending
        ends = world.run_many(first, look, ending, returning, look)
        assert [ends[i].verdict for i in (0, 2, 3)] == ["settled", "repeated", "repeated"]
        assert ends[1] == ends[4], "repeating a settlement changed something"

    for i in range(20):
        world.pass_time(pick.expovariate(3.0))
        chance = pick.random()
        if chance < 0.6 or not live:
            request(f"r{i}")
        elif chance < 0.64:
            account = pick.choice(fleet.accounts)
            if account in latched:
                latched.discard(account)
                client.delete(world.keys.blocked_account(account))
            else:
                latched.add(account)
                assert world.run(block_account, account, "pay the bill")
        elif chance < 0.67:
            circuit, state = pick.choice(fleet.circuits), pick.choice(["auto", "auto", "open"])
            world.run(set_circuit, circuit, state)
            (shut.add if state == "open" else shut.discard)(circuit)
        else:
            world.run(sweep, 100)
            forget_ended()
            if live:
                act(pick.choice(sorted(live)))
    world.pass_time(200)
    while world.run(sweep, 3).more:
        pass
    end = world.server.run(fleet.look(world))
    assert end.open_reservations == 0
    assert all(bucket.in_flight == 0 for bucket in end.buckets)
    assert all(budget.held == 0 for budget in end.budgets)
