"""Candidates of one call: which is taken, from when, and when a fallback counts."""

import pytest

from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.feedback import set_circuit
from limits.reservation import Candidate, Charge, Denied, Impossible
from tests.unit.limits.world import World

TOTAL = BudgetWindow("w", 100, "total")
TODAY = BudgetWindow("w", 100, "today", 2_000_000_000_000_000, "tomorrow")


def route(
    name: str, *, not_before: float = 0.0, fallback: bool = False, amount: int = 0, quota: Quota | None = None
) -> Candidate:
    """A candidate with a circuit, an account and a bucket of its own."""
    charge = Charge(f"bucket {name}", quota or Quota(), {"rpm": 1})
    return Candidate(name, f"account {name}", (charge,), amount, not_before=not_before, fallback=fallback)


def spend(world: World, amount: int, budget: BudgetWindow) -> None:
    world.admitted("before", candidates=(route("before", amount=amount),), budgets=(budget,))
    world.settle("before", amount=amount)


def test_another_candidate_is_taken_before_ones_time(world: World) -> None:
    answer = world.admitted("a", candidates=(route("failed", not_before=4.0), route("other")))
    assert (answer.candidate, answer.wait) == (1, 0.0)


def test_a_call_without_another_candidate_waits_for_its_time(world: World) -> None:
    denied = world.denied("a", candidates=(route("failed", not_before=4.0),), max_wait=5.0)
    assert denied == Denied("not_before", "failed", 4.0, 4.0)
    world.pass_time(4.0)
    assert world.admitted("a", candidates=(route("failed"),)).wait == 0.0


def test_the_soonest_time_counts(world: World) -> None:
    world.run(set_circuit, "open", "open")
    both = (route("failed", not_before=0.5), route("open"))
    assert world.denied("a", candidates=both) == Denied("not_before", "failed", 0.5, 0.5)
    late = (route("failed", not_before=86_400.0), route("open"))
    assert world.denied("b", candidates=late).reason == "circuit"


def test_a_candidates_own_wait_may_be_the_longer_one(world: World) -> None:
    world.run(set_circuit, "open", "open")
    denied = world.denied("a", candidates=(route("open", not_before=0.001),))
    assert denied.reason == "circuit"
    spend(world, 100, TOTAL)
    never = (route("a", amount=10, not_before=1.0),)
    assert world.denied("b", candidates=never, budgets=(TOTAL,)) == Denied("budget", "w", None, None)


def test_a_fallback_counts_only_if_the_budget_refuses_all_others(world: World) -> None:
    own, cheap = route("own", amount=50), route("cheap", amount=1, fallback=True)
    assert world.admitted("a", candidates=(own, cheap), budgets=(TODAY,)).candidate == 0
    world.settle("a", amount=60)
    assert world.admitted("b", candidates=(own, cheap), budgets=(TODAY,)).candidate == 1
    larger = route("larger", amount=101)
    assert world.admitted("c", candidates=(larger, own, cheap), budgets=(TODAY,)).candidate == 2


@pytest.mark.parametrize("why", ["booked", "denied", "held", "impossible", "failed"])
def test_a_fallback_does_not_help_against_anything_but_the_budget(world: World, why: str) -> None:
    quota = Quota(rpm=60, burst=1.0, headroom=1.0)
    own = route("own", amount=50, quota=quota, not_before=3.0 if why == "failed" else 0.0)
    cheap = route("cheap", amount=1, fallback=True)
    if why == "impossible":
        own = Candidate("own", "account own", (Charge("b", Quota(tpm=10), {"tpm": 11}),), 50)
        assert isinstance(world.ask("a", candidates=(own, cheap), budgets=(TODAY,)), Impossible)
        return
    if why == "held":
        world.admitted("flying", candidates=(route("flying", amount=90),), budgets=(TODAY,))
    elif why != "failed":
        world.admitted("first", candidates=(own,), send_at_once=True)
    wait = 5.0 if why == "booked" else 0.0
    answer = world.ask("a", candidates=(own, cheap), budgets=(TODAY,), max_wait=wait)
    if why == "booked":
        assert not isinstance(answer, Denied | Impossible)
        assert answer.candidate == 0
    else:
        assert isinstance(answer, Denied)
        assert answer.reason == {"denied": "rpm", "held": "budget_held", "failed": "not_before"}[why]


def test_the_soonest_of_own_and_fallback_is_waited_for(world: World) -> None:
    spend(world, 60, TOTAL)
    own, cheap = route("own", amount=50), route("cheap", amount=1, fallback=True)
    world.run(set_circuit, "cheap", "open")
    assert world.denied("a", candidates=(own, cheap), budgets=(TOTAL,)).reason == "circuit"
    small = Candidate("cheap", "a", (Charge("b", Quota(tpm=10), {"tpm": 11}),), 1, fallback=True)
    assert world.denied("b", candidates=(own, small), budgets=(TOTAL,)) == Denied("budget", "w", None, None)
    dear = route("dear", amount=101)
    assert world.ask("c", candidates=(dear, small), budgets=(TOTAL,)) == Impossible("w", "usd", 101, 100)
    several = (dear, route("cheap", amount=1, fallback=True), route("cheaper", amount=1, fallback=True))
    assert world.admitted("d", candidates=several, budgets=(TOTAL,)).candidate == 2
