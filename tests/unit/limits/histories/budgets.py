"""Histories of money: windows that turn, leases that end, and settlements that come late."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from limits.admission import renew, sent, sweep
from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.reservation import Admitted, Denied, SendPermit
from limits.snapshot import Snapshot, snapshot
from tests.unit.limits.histories.quota import DAY
from tests.unit.limits.world import SECOND, START, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from limits.client.scripts import Script


@dataclass
class Money:
    """One reservation in the separate account."""

    state: str
    amount: int
    at: int
    till: int
    windows: tuple[str, ...]


def budgets(client: "redis.Redis", seed: int, scripts: "Mapping[str, Script] | None" = None) -> None:
    """Money over workflow, batch and global windows that turn, with leases that end, against plain bookkeeping."""
    world = World(client, seed, scripts, "budgets")
    pick = world.random
    turn = START + 6 * SECOND
    subjects = (
        BudgetWindow("workflow", 9_000_000_000, "one", turn, "two"),
        BudgetWindow("batch", 14_000_000_000, "total"),
        BudgetWindow("all", 20_000_000_000, "one", turn + 3 * SECOND, "two"),
    )
    both = [
        BudgetWindow(b.subject, b.limit, window) for b in subjects for window in {b.window, b.next_window or b.window}
    ]
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
        expire()  # the script sweeps what is due before it answers
        if isinstance(answer, Denied):
            if answer.reason in {"budget", "budget_held"}:
                refused(answer, amount)
            return
        assert isinstance(answer, Admitted)
        windows = tuple(window_of(budget, answer.at) for budget in subjects)
        entries[name] = Money("held", amount, answer.at, answer.at + round(lease * SECOND), windows)
        assert answer.lease_until == entries[name].till

    def refused(answer: Denied, amount: int) -> None:
        budget = next(budget for budget in subjects if budget.subject == answer.subject)
        windows = {window_of(budget, world.now), window_of(budget, world.now + 3 * SECOND)}
        holding = held()
        assert any(spent.get(w, 0) + holding.get(w, 0) + amount > budget.limit for w in windows)
        if answer.reason == "budget":
            assert any(spent.get(w, 0) + amount > budget.limit for w in windows)
            assert (answer.retry_in is None) == (not budget.until), answer

    def depart(money: Money, departure: SendPermit) -> None:
        if departure.verdict == "sent" and money.state == "held":
            money.state = "sent"
        elif departure.verdict == "wait":
            # It came too early, or so late that it must wait for a turn.
            later = world.now + round(departure.wait * SECOND) - money.at
            money.at, money.till = money.at + later, money.till + later

    def finish(name: str) -> None:
        money = entries[name]
        actual = pick.randint(0, money.amount) if money.amount else pick.randint(0, 1_000_000)
        failed = pick.random() < 0.2
        verdict = world.settle(name, amount=actual, failed=failed)
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
        assert world.settle(name, amount=actual + 1) == "repeated"

    for i in range(32):
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
                depart(entries[name], world.run(sent, name, "o"))
            elif chance < 0.8:
                lost = world.run(renew, [name], "o", 5.0).lost
                assert (name in lost) == (entries[name].state not in {"held", "sent"})
                if not lost:
                    entries[name].till = max(entries[name].till, world.now + 5 * SECOND)
            else:
                finish(name)
        _, state = world.run_many(world.call(sweep, 100), world.call(snapshot, budgets=both))
        expire()
        compare_money(state, spent, held(), limits)
    world.pass_time(100)
    while world.run(sweep, 7).more:
        pass
    expire()
    state = world.run(snapshot, budgets=both)
    compare_money(state, spent, {}, limits)
    assert state.open_reservations == 0
    days = [world.now // SECOND // DAY - 1, world.now // SECOND // DAY]
    booked = dict.fromkeys(columns, 0)
    for row in world.ledger(days).values():
        for name in booked:
            booked[name] += row.get(name, 0)
    assert booked == columns


def window_of(budget: BudgetWindow, at: int) -> str:
    turned = budget.until > 0 and at >= budget.until
    return f"{budget.subject}:{budget.next_window if turned else budget.window}"


def compare_money(state: Snapshot, spent: dict[str, int], held: dict[str, int], limits: dict[str, int]) -> None:
    """Both windows of each budget equal the account."""
    for budget in state.budgets:
        name = f"{budget.subject}:{budget.window}"
        assert budget.spent == spent.get(name, 0), (name, budget.spent, spent.get(name, 0))
        assert budget.held == held.get(name, 0), (name, budget.held, held.get(name, 0))
        # A call that was sent after its sweep may add what was no longer held: a million at most.
        assert budget.spent + budget.held <= limits[budget.subject] + 60_000_000
