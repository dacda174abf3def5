"""One reservation for the calls of a chunk: each is settled once, and what is left is given back at the end."""

from limits.admission import admit, release, renew, sent, settle, sweep
from limits.budget import BudgetWindow
from limits.client.scripts import Call, load
from limits.encoding import settlement_json
from limits.reservation import Admitted, Ask, Candidate, Denied, Settlement
from limits.snapshot import BudgetState, snapshot
from tests.unit.limits.world import World

SETTLE = "limits/lua/settle.lua"
BUDGET = BudgetWindow("w", 1_000, "total")


def chunk(name: str = "c", amount: int = 600) -> Ask:
    candidate = Candidate("batch:p/m", "p/0", (), amount, "row")
    return Ask(name, "o", (candidate,), (BUDGET,), max_wait=0.0, lease=60.0)


def money(world: World) -> BudgetState:
    return world.run(snapshot, budgets=[BUDGET]).budgets[0]


def part(world: World, place: int, held: int, amount: int, *, presumed: bool = False, owner: str = "o") -> str:
    """Settle one call of the chunk; the verdict."""
    closing = Settlement(amount, columns={"calls": 1}, presumed=presumed)
    encoded = settlement_json("c", owner, closing, part=(place, held))
    made: Call[str] = Call(
        world.scripts.get(SETTLE) or load(SETTLE),
        (world.keys.clock,),
        (world.now, encoded),
        lambda reply: reply[0].decode(),
    )
    return world.server.run(made)


def ledger(world: World) -> dict[str, int]:
    rows = world.ledger([world.now // (86_400 * 1_000_000)])
    return next(iter(rows.values()), {})


def test_each_call_is_settled_once_and_the_rest_is_given_back(world: World) -> None:
    assert isinstance(world.run(admit, chunk()), Admitted)
    assert world.run(sent, "c", "o").verdict == "sent"
    assert [part(world, 0, 200, 30), part(world, 5, 200, 50, presumed=True)] == ["settled", "settled"]
    assert (money(world).spent, money(world).held) == (80, 200)
    assert [part(world, 0, 200, 30), part(world, 5, 200, 50)] == ["repeated", "repeated"]
    assert part(world, 6, 10, 1, owner="other") == "unknown"
    assert part(world, 9, 0, 0) == "settled"
    assert (money(world).spent, money(world).held) == (80, 200)
    assert world.run(release, "c", "o").verdict == "settled"
    assert (money(world).spent, money(world).held) == (80, 0)
    assert part(world, 7, 200, 30) == "repeated"
    assert money(world).spent == 80
    assert ledger(world) == {"calls": 3, "cost": 30, "presumed_cost": 50}
    assert world.client.bitcount(world.keys.parts("c")) == 3


def test_a_chunk_holds_its_money_until_its_calls_are_settled(world: World) -> None:
    world.run(admit, chunk())
    assert isinstance(world.run(admit, chunk("d", 500)), Denied)
    part(world, 0, 600, 10)
    assert isinstance(world.run(admit, chunk("d", 500)), Admitted)


def test_a_call_that_costs_more_than_it_held_takes_no_more_from_the_chunk(world: World) -> None:
    world.run(admit, chunk(amount=100))
    assert part(world, 0, 100, 130) == "settled"
    assert part(world, 1, 50, 7) == "settled"
    assert (money(world).spent, money(world).held) == (137, 0)


def test_a_result_after_the_lease_replaces_what_was_presumed(world: World) -> None:
    world.run(admit, chunk())
    world.run(sent, "c", "o")
    world.pass_time(30)
    assert world.run(renew, ["c"], "o", 60.0).lost == ()
    world.pass_time(61)
    world.run(sweep)
    assert (money(world).spent, money(world).held) == (600, 0)
    assert part(world, 0, 200, 30) == "corrected"
    assert (money(world).spent, money(world).held) == (430, 0)
    assert ledger(world) == {"calls": 1, "cost": 30, "presumed_cost": 400, "presumed": 1}
    assert world.run(release, "c", "o").verdict == "corrected"
    assert (money(world).spent, ledger(world)) == (30, {"calls": 1, "cost": 30, "presumed_cost": 0, "presumed": 0})


def test_a_chunk_that_was_never_sent_gives_everything_back_and_still_books_results(world: World) -> None:
    world.run(admit, chunk())
    world.pass_time(61)
    world.run(sweep)
    assert (money(world).spent, money(world).held) == (0, 0)
    assert part(world, 0, 200, 30) == "corrected"
    assert money(world).spent == 30


def test_a_call_without_a_part_settles_the_whole_reservation(world: World) -> None:
    world.run(admit, chunk())
    assert world.run(settle, "c", "o", Settlement(5)).verdict == "settled"
    assert (money(world).spent, money(world).held) == (5, 0)
