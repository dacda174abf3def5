"""Budgets' windows and the ledger."""

from limits.bucket import LARGEST, Quota
from limits.budget import BudgetWindow
from limits.reservation import Impossible
from limits.snapshot import ledger_page, snapshot
from tests.unit.limits.world import SECOND, START, World

ANY = Quota()


def test_midnight_belongs_to_one_window(world: World) -> None:
    """The admission's own time decides: a call that waits past midnight is tomorrow's."""
    quota = Quota(rpm=60, headroom=1.0, burst=1.0)
    budget = BudgetWindow("w", 100, "today", START + SECOND // 2, "tomorrow")
    world.admitted("now", quota, amount=100, budgets=(budget,))
    # Today's window is held to the last n$, and this call will be sent tomorrow.
    late = world.admitted("late", quota, amount=60, budgets=(budget,))
    assert late.at == START + SECOND
    both = [BudgetWindow("w", 100, name) for name in ("today", "tomorrow")]
    assert [(state.held, state.window) for state in world.run(snapshot, budgets=both).budgets] == [
        (100, "today"),
        (60, "tomorrow"),
    ]
    world.pass_time(2)
    now = world.run(snapshot, budgets=[budget]).budgets[0]
    assert (now.window, now.held, now.resets) == ("tomorrow", 60, 0)


def test_a_budgets_denial_says_when_to_ask_again(world: World) -> None:
    turn = START + 100 * SECOND
    day = BudgetWindow("w", 100, "today", turn, "tomorrow")
    total = BudgetWindow("t", 100, "total")
    world.admitted("a", ANY, amount=60, budgets=(day, total))
    held = world.denied("b", ANY, amount=60, budgets=(day, total))
    assert (held.reason, held.subject) == ("budget_held", "w")
    assert held.retry_in is not None
    assert 1 <= held.retry_in <= 5
    world.settle("a", amount=60)
    spent = world.denied("b", ANY, amount=60, budgets=(day,))
    assert (spent.reason, spent.subject) == ("budget", "w")
    assert spent.retry_in is not None
    assert 100 <= spent.retry_in <= 130
    assert world.denied("b", ANY, amount=60, budgets=(total,)).retry_in is None
    world.pass_time(100)
    world.admitted("b", ANY, amount=60, budgets=(day,))
    world.settle("b", amount=60)
    # The asker's clock is behind: it still calls tomorrow the next window.
    behind = world.denied("c", ANY, amount=60, budgets=(day,))
    assert behind.retry_in is not None
    assert 30 <= behind.retry_in <= 60


def test_a_spent_budget_is_named_before_a_held_one(world: World) -> None:
    everything, workflow = BudgetWindow("all", 100, "total"), BudgetWindow("w", 50, "total")
    world.admitted("spent", ANY, amount=45, budgets=(workflow,))
    world.settle("spent", amount=45)
    world.admitted("flying", ANY, amount=95, budgets=(everything,))
    denied = world.denied("b", ANY, amount=10, budgets=(everything, workflow))
    assert (denied.reason, denied.subject, denied.retry_in) == ("budget", "w", None)


def test_a_budget_that_turns_too_late_for_the_admission(world: World) -> None:
    """Tomorrow's window could pay, within max_wait; but the call would be sent today."""
    quota = Quota(rpm=60, headroom=1.0, burst=1.0)
    budget = BudgetWindow("w", 100, "today", START + 3 * SECOND, "tomorrow")
    world.admitted("a", quota, amount=100, budgets=(budget,), send_at_once=True)
    world.settle("a", amount=100)
    denied = world.denied("b", quota, amount=10, budgets=(budget,), max_wait=5.0)
    assert (denied.reason, denied.subject) == ("budget", "w")
    assert denied.retry_in is not None
    assert denied.retry_in >= 3


def test_a_budget_smaller_than_the_call_makes_it_impossible(world: World) -> None:
    budget = BudgetWindow("w", 100, "total")
    assert world.ask("a", ANY, amount=101, budgets=(budget,)) == Impossible("w", "usd", 101, 100)
    world.admitted("b", ANY, amount=100, budgets=(budget,))


def test_a_failed_call_costs_in_a_column_of_its_own(world: World) -> None:
    day = world.now // SECOND // 86_400
    for name, failed in (("a", False), ("b", True)):
        world.admitted(name, ANY, amount=50, row='["w","b"]')
        world.settle(name, amount=40, failed=failed, columns={"calls": 1, "input_tokens": 7})
    row = world.ledger([day, day + 1])[day, '["w","b"]']
    assert row == {"cost": 40, "failed_cost": 40, "calls": 2, "input_tokens": 14}


def test_what_the_provider_may_have_billed_is_presumed(world: World) -> None:
    day = world.now // SECOND // 86_400
    world.admitted("a", ANY, amount=50, row="r")
    world.settle("a", amount=50, failed=True, presumed=True)
    assert world.ledger([day])[day, "r"] == {"presumed_cost": 50, "presumed": 1}


def test_money_is_exact_up_to_the_largest_number(world: World) -> None:
    large = LARGEST - 2
    budget = BudgetWindow("w", LARGEST - 1, "total")
    world.admitted("a", ANY, amount=large, budgets=(budget,), row="r")
    state = world.run(snapshot, budgets=[budget]).budgets[0]
    assert (state.limit, state.held) == (LARGEST - 1, large)
    world.admitted("b", ANY, amount=1, budgets=(budget,), row="r")
    assert world.denied("c", ANY, amount=1, budgets=(budget,)).reason == "budget_held"
    world.settle("a", amount=large - 1)
    world.settle("b", amount=1)
    assert world.run(snapshot, budgets=[budget]).budgets[0].spent == large
    day = world.now // SECOND // 86_400
    assert world.ledger([day])[day, "r"] == {"cost": large}


def test_a_long_ledger_is_read_in_pages(world: World) -> None:
    day = world.now // SECOND // 86_400
    names = [f"r{number}" for number in range(700)]
    for name in names:
        world.admitted(name, ANY, amount=2, row=name)
        world.settle(name, amount=1, columns={"calls": 1})
    first = world.run(ledger_page, [day, day + 1], rows=50)
    assert 50 <= len(first.rows) <= 100
    found = world.ledger([day - 1, day, day + 1], rows=50)
    assert found == {(day, name): {"cost": 1, "calls": 1} for name in names}
    assert world.ledger([]) == {}
