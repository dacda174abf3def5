"""May this call go out now? Before each call a worker asks, and takes all that the call needs or nothing."""

from limits.admission import admit, release, sent, settle
from limits.bucket import Quota
from limits.budget import NANO, BudgetWindow
from limits.client.connection import Server
from limits.keys import Keys
from limits.reservation import Admitted, Ask, Candidate, Charge, Denied, Impossible, Settlement, Throttle
from limits.snapshot import snapshot
from tests.support.site import Site

QUOTA = Quota(rpm=60, tpm=6_000, burst=1.0, headroom=1.0)
BUDGET = BudgetWindow("workflow/tickets", limit=2 * NANO, window="2026-11-25")


def ask(name: str, *, tokens: int = 100, dollars: int = 0, max_wait: float = 0.0) -> Ask:
    """A call of `tokens` that may cost `dollars`."""
    charge = Charge("acme/0/small", QUOTA, {"rpm": 1, "tpm": tokens})
    candidate = Candidate("acme/small", "acme/0", (charge,), amount=dollars * NANO)
    return Ask(id=name, owner="worker-1", candidates=(candidate,), budgets=(BUDGET,), max_wait=max_wait)


def test_1_a_call_that_fits_is_admitted_at_once(server: Server, keys: Keys) -> None:
    answer = server.run(admit(keys, ask("one")))
    assert isinstance(answer, Admitted)
    assert answer.wait == 0
    assert server.run(sent(keys, "one", "worker-1")).verdict == "sent"
    assert server.run(settle(keys, "one", "worker-1", Settlement())).verdict == "settled"


def test_2_the_next_call_waits_with_its_place_held(server: Server, keys: Keys) -> None:
    server.run(admit(keys, ask("one")))
    answer = server.run(admit(keys, ask("two", max_wait=5.0)))
    assert isinstance(answer, Admitted)
    assert 0.5 < answer.wait <= 1.0, "60 requests a minute are one a second"


def test_3_a_denial_says_when_to_come_back(server: Server, keys: Keys) -> None:
    server.run(admit(keys, ask("one")))
    answer = server.run(admit(keys, ask("two", max_wait=0.1)))
    assert isinstance(answer, Denied)
    assert answer.reason in {"rpm", "tpm"}
    assert answer.retry_in is not None
    assert answer.retry_in > 0.5


def test_4_a_call_larger_than_the_limit_itself_can_never_go(server: Server, keys: Keys) -> None:
    answer = server.run(admit(keys, ask("huge", tokens=7_000)))
    assert answer == Impossible("acme/0/small", "tpm", 7_000, 6_000)


def test_5_the_same_reservation_may_be_asked_for_again(server: Server, keys: Keys) -> None:
    first, again = (server.run(admit(keys, ask("one"))) for _ in range(2))
    assert isinstance(first, Admitted)
    assert isinstance(again, Admitted)
    assert (again.at, again.repeated) == (first.at, True)


def test_6_what_is_not_used_is_given_back(server: Server, keys: Keys) -> None:
    server.run(admit(keys, ask("one")))
    assert server.run(release(keys, "one", "worker-1")).verdict == "settled"
    assert isinstance(server.run(admit(keys, ask("two", max_wait=0.1))), Admitted)


def test_7_money_is_held_before_it_is_spent(server: Server, keys: Keys) -> None:
    assert isinstance(server.run(admit(keys, ask("one", dollars=2))), Admitted)
    denied = server.run(admit(keys, ask("two", dollars=1, max_wait=60)))
    assert isinstance(denied, Denied)
    assert denied.reason == "budget_held"
    server.run(settle(keys, "one", "worker-1", Settlement(amount=NANO // 2)))
    assert isinstance(server.run(admit(keys, ask("two", dollars=1, max_wait=60))), Admitted)
    (budget,) = server.run(snapshot(keys, budgets=[BUDGET])).budgets
    assert (budget.spent, budget.held) == (NANO // 2, NANO)


def test_8_a_429_pauses_all_workers(server: Server, keys: Keys) -> None:
    server.run(admit(keys, ask("one")))
    refused = Settlement(outcome="neutral", throttles=(Throttle("acme/0/small", retry_after=30.0),))
    server.run(settle(keys, "one", "worker-1", refused))
    denied = server.run(admit(keys, ask("two")))
    assert isinstance(denied, Denied)
    assert denied.reason == "pause"
    assert denied.retry_in is not None
    assert denied.retry_in > 29


def test_9_a_provider_that_fails_is_left_alone_for_a_while(server: Server, keys: Keys) -> None:
    for number in range(10):
        call = ask(f"call-{number}", max_wait=60)
        assert isinstance(server.run(admit(keys, call)), Admitted)
        server.run(settle(keys, call.id, "worker-1", Settlement(outcome="failure", costs=({},))))
    denied = server.run(admit(keys, ask("another", max_wait=60)))
    assert isinstance(denied, Denied)
    assert (denied.reason, denied.subject) == ("circuit", "acme/small")


def test_10_a_limit_is_changed_while_workers_run(site: Site) -> None:
    site.run("set", "providers.acme.models.small.rpm=1200")
    assert "providers.acme.models.small.rpm = 1200" in site.run("limits").stderr
    site.run("set", "--unset", "providers.acme.models.small.rpm")
    assert "1200" not in site.run("limits").stderr
