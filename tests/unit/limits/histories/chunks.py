"""Histories of chunks: one reservation for many calls, each settled once, before and after its lease has ended."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from limits.admission import admit, release, renew, sent, sweep
from limits.budget import BudgetWindow
from limits.client.scripts import Call, load
from limits.encoding import settlement_json
from limits.reservation import Admitted, Ask, Candidate, Settlement
from limits.snapshot import snapshot
from tests.unit.limits.histories.quota import DAY
from tests.unit.limits.world import SECOND, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from limits.client.scripts import Script

BUDGET = BudgetWindow("chunks", 1_000_000, "total")
LEASE = 20.0
SETTLE = "limits/lua/settle.lua"


@dataclass
class Entry:
    """One chunk in the separate account; `left` is what it still holds, or what was presumed of it."""

    left: int
    till: int
    state: str = "held"
    places: set[int] = field(default_factory=set)


class Account:
    """Plain bookkeeping of what the scripts should do."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.entries: dict[str, Entry] = {}
        self.spent = 0
        self.columns = {"cost": 0, "presumed_cost": 0, "calls": 0}

    def expire(self) -> None:
        """What the sweep does to each chunk whose lease has ended."""
        for entry in self.entries.values():
            if entry.till > self.world.now or entry.state not in {"held", "sent"}:
                continue
            if entry.state == "sent":
                self.spent += entry.left
                self.columns["presumed_cost"] += entry.left
                entry.state = "presumed"
            else:
                entry.left, entry.state = 0, "expired"

    def part(self, entry: Entry, place: int, held: int, amount: int) -> str:
        """Settle one call; the verdict."""
        if entry.state == "settled" or place in entry.places:
            return "repeated"
        entry.places.add(place)
        held = min(held, entry.left)
        entry.left -= held
        self.spent += amount
        self.columns["cost"] += amount
        self.columns["calls"] += 1
        if entry.state == "presumed":
            self.spent -= held
            self.columns["presumed_cost"] -= held
        return "settled" if entry.state in {"held", "sent"} else "corrected"

    def close(self, entry: Entry) -> None:
        """Give back what is left."""
        if entry.state == "presumed":
            self.spent -= entry.left
            self.columns["presumed_cost"] -= entry.left
        entry.left, entry.state = 0, "settled"

    def compare(self) -> None:
        """The budget and the ledger equal the account."""
        held = sum(entry.left for entry in self.entries.values() if entry.state in {"held", "sent"})
        found = self.world.run(snapshot, budgets=(BUDGET,)).budgets[0]
        assert (found.spent, found.held) == (self.spent, held)
        booked = dict.fromkeys(self.columns, 0)
        for row in self.world.ledger([self.world.now // SECOND // DAY - 1, self.world.now // SECOND // DAY]).values():
            for name in booked:
                booked[name] += row.get(name, 0)
        assert booked == self.columns


def chunks(client: "redis.Redis", seed: int, scripts: "Mapping[str, Script] | None" = None) -> None:
    """Chunks are held, sent, renewed, settled call by call, swept and closed, against plain bookkeeping."""
    world = World(client, seed, scripts, "chunks")
    account, pick = Account(world), world.random
    settle = (scripts or {}).get(SETTLE) or load(SETTLE)
    for step in range(60):
        world.pass_time(pick.choice((0.0, 1.0, 7.0)))
        world.run(sweep, 100)
        account.expire()
        name = pick.choice([*account.entries, ""])
        if not name:
            ask = Ask(f"c{step}", "o", (Candidate("x", "p/0", (), 1_000, "row"),), (BUDGET,), max_wait=0.0, lease=LEASE)
            assert isinstance(world.run(admit, ask), Admitted)
            account.entries[ask.id] = Entry(1_000, world.now + round(LEASE * SECOND))
            continue
        entry, chance = account.entries[name], pick.random()
        if chance < 0.6:
            place, held, amount = pick.randrange(8), pick.choice((100, 300)), pick.choice((0, 40, 400))
            encoded = settlement_json(name, "o", Settlement(amount, columns={"calls": 1}), part=(place, held))
            call: Call[str] = Call(settle, (world.keys.clock,), (world.now, encoded), lambda reply: reply[0].decode())
            verdict = world.server.run(call)
            if entry.state != "settled" or verdict != "unknown":  # it is remembered for half a minute
                assert verdict == account.part(entry, place, held, amount)
        elif chance < 0.75:
            if world.run(sent, name, "o").verdict == "sent" and entry.state == "held":
                entry.state = "sent"
        elif chance < 0.9:
            lost = world.run(renew, [name], "o", LEASE).lost
            assert (name in lost) == (entry.state not in {"held", "sent"})
            if not lost:
                entry.till = world.now + round(LEASE * SECOND)
        elif world.run(release, name, "o").verdict in {"settled", "corrected"}:
            account.close(entry)
        account.compare()
