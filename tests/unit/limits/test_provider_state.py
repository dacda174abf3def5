"""Circuits, latches, budgets' windows and the ledger: what a person does by hand, and what is shown of it."""

import pytest

from limits.admission import release, sent, settle, sweep
from limits.bucket import LARGEST, Quota
from limits.budget import BudgetWindow
from limits.circuit import CircuitSettings
from limits.feedback import resume, set_circuit, unblock_account
from limits.reservation import Admitted, Candidate, Charge, Denied, Impossible, Settlement, Throttle
from limits.snapshot import ledger_page, snapshot
from tests.support.provider_feedback import block_account, throttled
from tests.unit.limits.world import SECOND, START, World

SETTINGS = CircuitSettings(window=10.0, volume=2, cooldown=1.0, longest_cooldown=4.0, probes=2, most_retries=2.0)
ANY = Quota()


def end(world: World, name: str, outcome: str) -> bool:
    """Settle a call; whether that opened the circuit."""
    return world.run(settle, name, "o", Settlement(outcome=outcome, circuit=SETTINGS)).circuit_opened  # type: ignore[arg-type]


def fail(world: World, times: int = 2) -> None:
    for number in range(times):
        name = f"f{world.now}-{number}"
        world.admitted(name, ANY, circuit=SETTINGS, send_at_once=True)
        end(world, name, "failure")


# Circuits


def test_a_circuit_needs_volume_and_ratio(world: World) -> None:
    for number, outcome in enumerate(("failure", "ok", "ok", "failure")):
        world.admitted(f"r{number}", ANY, circuit=SETTINGS)
        assert end(world, f"r{number}", outcome) == (number == 3)


@pytest.mark.parametrize("outcome", ["ok", "neutral"])
def test_what_is_no_failure_opens_nothing(world: World, outcome: str) -> None:
    for number in range(10):
        world.admitted(f"r{number}", ANY, circuit=SETTINGS)
        assert not end(world, f"r{number}", outcome)
    assert world.circuit().calls == (10 if outcome == "ok" else 0)


def test_as_many_probes_as_configured_close_it_one_at_a_time(world: World) -> None:
    fail(world)
    assert world.circuit().state == "open"
    assert world.denied("early", ANY, circuit=SETTINGS).reason == "circuit"
    world.pass_time(1.2)
    assert world.admitted("p1", ANY, circuit=SETTINGS).probe
    assert world.denied("x", ANY, circuit=SETTINGS).reason == "circuit"
    end(world, "p1", "ok")
    assert world.circuit().state == "half-open"
    assert world.admitted("p2", ANY, circuit=SETTINGS).probe
    end(world, "p2", "ok")
    assert world.circuit().state == "closed"


def test_a_probe_that_says_nothing_makes_way(world: World) -> None:
    fail(world)
    world.pass_time(1.2)
    world.admitted("p1", ANY, circuit=SETTINGS)
    end(world, "p1", "neutral")
    assert world.admitted("p2", ANY, circuit=SETTINGS).probe
    world.run(release, "p2", "o")
    assert world.admitted("p3", ANY, circuit=SETTINGS).probe


def test_only_the_probe_may_leave_to_a_half_open_circuit(world: World) -> None:
    world.admitted("waiting", ANY)
    fail(world)
    world.pass_time(1.2)
    world.admitted("probe", ANY, circuit=SETTINGS)
    assert world.run(sent, "waiting", "o").verdict == "revoked"
    assert world.run(sent, "probe", "o").verdict == "sent"


def test_who_was_held_up_after_it_was_let_go_is_told_of_a_pause_and_of_a_latch(world: World) -> None:
    world.admitted("a", ANY)
    assert world.run(sent, "a", "o").verdict == "sent"
    assert world.run(sent, "a", "o").verdict == "sent"
    world.run(throttled, Throttle("b", 3.0))
    told = world.run(sent, "a", "o")
    assert (told.verdict, told.wait, told.reason) == ("wait", 3.0, "pause")
    world.pass_time(3.0)
    assert world.run(sent, "a", "o").verdict == "sent"
    world.run(block_account, "a", "no credit")
    assert world.run(sent, "a", "o").verdict == "revoked"
    world.run(release, "a", "o")
    assert world.bucket(ANY).in_flight == 0


def test_cooldowns_double_up_to_the_longest(world: World) -> None:
    fail(world)
    for cooldown in (1, 2, 4, 4):
        left = (world.circuit().until - world.now) / SECOND
        assert 0.8 * cooldown <= left <= 1.2 * cooldown + 1e-6
        world.pass_time(left)
        name = f"p{world.now}"
        world.admitted(name, ANY, circuit=SETTINGS)
        assert end(world, name, "failure")


def test_a_retry_may_be_the_probe(world: World) -> None:
    fail(world)
    world.pass_time(1.2)
    assert world.admitted("probe", ANY, circuit=SETTINGS, retry=True).probe
    assert world.circuit().state == "half-open"


@pytest.mark.parametrize("state", ["open", "closed"])
def test_set_by_hand(world: World, state: str) -> None:
    world.admitted("before", ANY)
    world.run(set_circuit, "c", state)
    assert world.circuit().by_hand
    assert not end(world, "before", "failure")
    if state == "open":
        denied = world.denied("r", ANY)
        assert denied.reason == "circuit"
        assert denied.retry_in is not None
        assert denied.retry_in >= 30
        world.pass_time(1000)
        assert world.denied("r", ANY).reason == "circuit", "no probe goes out"
    else:
        fail(world, 10)
        assert world.circuit().state == "closed", "failures are ignored"
    assert world.client.pttl(world.keys.circuit("c")) > 80 * 86_400_000
    world.run(set_circuit, "c", "auto")
    assert not world.circuit().by_hand
    fail(world)
    assert world.circuit().state == "open"


def test_retries_are_rationed(world: World) -> None:
    settings = CircuitSettings(retries_per_call=0.5, retries_per_second=0.1, most_retries=2.0)

    def retry(name: str) -> Admitted | Denied | Impossible:
        return world.ask(name, ANY, retry=True, circuit=settings)

    assert isinstance(retry("a"), Admitted)
    assert isinstance(retry("b"), Admitted)
    denied = retry("c")
    assert isinstance(denied, Denied)
    assert denied.reason == "retry_budget"
    assert denied.retry_in is not None
    assert 10 <= denied.retry_in <= 100
    assert isinstance(world.ask("first attempt", ANY, circuit=settings), Admitted)
    for name in ("a", "b"):
        world.run(settle, name, "o", Settlement(circuit=settings))
    assert isinstance(retry("c"), Admitted)
    world.pass_time(10)
    assert isinstance(retry("d"), Admitted)
    assert isinstance(retry("e"), Denied)


def test_a_late_result_of_a_probe_that_was_swept_changes_nothing(world: World) -> None:
    fail(world)
    world.pass_time(1.2)
    world.admitted("probe", ANY, circuit=SETTINGS, lease=1.0, send_at_once=True)
    world.pass_time(1)
    world.run(sweep)
    before = world.circuit()
    assert not end(world, "probe", "failure")
    assert world.circuit().state == before.state
    assert world.admitted("next", ANY, circuit=SETTINGS).probe


def test_a_circuit_that_was_forgotten(world: World) -> None:
    """Nobody called for a day: what was out then has a generation that means nothing any more."""
    world.run(set_circuit, "c", "auto")
    world.admitted("old", ANY)
    world.client.delete(world.keys.circuit("c"))
    fail(world)
    before = world.circuit()
    end(world, "old", "ok")
    assert world.circuit().state == before.state == "open"
    world.pass_time(1.2)
    world.admitted("probe", ANY, circuit=SETTINGS)
    world.client.delete(world.keys.circuit("c"))
    world.run(release, "probe", "o")
    assert world.circuit().state == "closed"


# Latches


def test_the_first_reason_of_a_latch_stays(world: World) -> None:
    assert world.run(block_account, "a", "pay the bill")
    assert not world.run(block_account, "a", "something else")
    assert world.run(snapshot, accounts=["a", "b"]).blocked_accounts == {"a": "pay the bill"}
    denied = world.denied("r", ANY)
    assert (denied.reason, denied.subject) == ("latch", "a")
    assert denied.retry_in is not None
    assert 30 <= denied.retry_in <= 60
    assert world.run(unblock_account, "a")
    assert not world.run(unblock_account, "a")
    world.admitted("r", ANY)


def test_a_latched_account_leaves_the_others(world: World) -> None:
    world.run(block_account, "bad", "no")
    ways = tuple(Candidate("c", account, (Charge("b", ANY, {}),)) for account in ("bad", "good"))
    assert world.admitted("r", candidates=ways).candidate == 1


# Budgets


def test_midnight_belongs_to_one_window(world: World) -> None:
    """The admission's own time decides: a call that waits past midnight is tomorrow's."""
    quota = Quota(rpm=60, headroom=1.0, burst=1.0)
    budget = BudgetWindow("w", 100, "today", START + SECOND // 2, "tomorrow")
    world.admitted("now", quota, amount=100, budgets=(budget,))
    # Today's is held to the last n$, and this call will leave tomorrow.
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


def test_when_a_budget_says_to_come_back(world: World) -> None:
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


def test_a_budget_that_is_spent_is_told_before_one_whose_money_is_held(world: World) -> None:
    everything, workflow = BudgetWindow("all", 100, "total"), BudgetWindow("w", 50, "total")
    world.admitted("spent", ANY, amount=45, budgets=(workflow,))
    world.settle("spent", amount=45)
    world.admitted("flying", ANY, amount=95, budgets=(everything,))
    denied = world.denied("b", ANY, amount=10, budgets=(everything, workflow))
    assert (denied.reason, denied.subject, denied.retry_in) == ("budget", "w", None)


def test_a_budget_that_turns_too_late_for_the_admission(world: World) -> None:
    """Tomorrow could pay, and within max_wait; but the call would leave today."""
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


# What is shown


def test_a_snapshot_of_nothing_yet(world: World) -> None:
    quota = Quota(rpm=60, tpm=6_000, rpd=86_400, headroom=0.5, burst=2.0, concurrency=4)
    state = world.run(snapshot, [("b", quota)], ["c"], ["a"], [BudgetWindow("w", 5, "total")])
    bucket = state.buckets[0]
    shown = {each.name: (each.limit, each.rate, each.available, each.burst) for each in bucket.dimensions}
    assert shown == {
        "rpm": (60, 0.5, 1.0, 2.0),
        "tpm": (6_000, 50.0, 100.0, 2.0),
        "rpd": (86_400, 0.5, 43_200.0, 86_400.0),
    }
    assert (bucket.in_flight, bucket.concurrency, bucket.paused_until, bucket.urgent) == (0, 4, 0, False)
    assert (state.circuits[0].state, state.circuits[0].retries_left) == ("closed", -1.0)
    assert state.blocked_accounts == {}
    assert (state.budgets[0].spent, state.budgets[0].held, state.open_reservations) == (0, 0, 0)
    assert world.client.keys(f"{world.keys.prefix}*") == []


def test_time_never_runs_backwards(world: World) -> None:
    quota = Quota(rpm=60, headroom=1.0, burst=1.0)
    first = world.admitted("a", quota)
    world.now -= 3_600 * SECOND
    later = world.admitted("b", quota)
    assert later.at == first.at + SECOND
    assert world.run(snapshot).now == first.at


def test_the_servers_own_clock(world: World) -> None:
    seconds, micros = world.client.time()
    world.now = 0  # where a test injects nothing
    answer = world.admitted("a")
    assert 0 <= answer.at - (seconds * SECOND + micros) < 60 * SECOND


@pytest.mark.parametrize("wait", [1.0, 600.0, 86_400.0])
def test_a_pause_that_is_lifted_leaves_the_rate_as_it_was(world: World, wait: float) -> None:
    quota = Quota(rpm=60, rpd=10_000, headroom=1.0, burst=1.0)
    costs = {"rpm": 1, "rpd": 1}
    assert world.run(resume, "b") == 0.0
    world.admitted("a", quota, costs=costs)
    world.admitted("booked", quota, costs=costs)
    world.run(throttled, Throttle("b", wait))
    assert world.denied("x", quota, costs=costs, max_wait=0.5).reason == "pause"
    assert world.run(resume, "b") == wait
    assert world.run(resume, "b") == 0.0
    assert not world.bucket(quota).paused_until > world.now
    world.pass_time(1.0)
    assert world.run(sent, "booked", "o").verdict == "sent"
    waits = [world.admitted(f"r{number}", quota, costs=costs, max_wait=30.0).wait for number in range(3)]
    assert waits == [pytest.approx(waits[0] + number, abs=0.01) for number in range(3)]
    assert waits[0] <= 2.0
