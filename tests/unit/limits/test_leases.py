"""Reservations: idempotence, owners, leases that are renewed, end or are swept; whether a call may still be sent."""

import pytest

from limits.admission import release, renew, sent, settle, sweep
from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.circuit import CircuitSettings
from limits.feedback import set_circuit, unblock_account
from limits.reservation import Admitted, Denied, Settlement
from limits.snapshot import snapshot
from tests.support.provider_feedback import block_account
from tests.unit.limits.world import SECOND, START, World

QUOTA = Quota(rpm=60, headroom=1.0, burst=10.0, concurrency=3)
BUDGET = BudgetWindow("w", 1_000, "total")
DAY = 86_400


def money(world: World) -> tuple[int, int]:
    state = world.run(snapshot, budgets=[BUDGET]).budgets[0]
    return state.spent, state.held


def take(world: World, name: str, **options: object) -> Admitted:
    return world.admitted(name, QUOTA, amount=100, budgets=(BUDGET,), lease=60.0, row="row", **options)


def columns(world: World) -> dict[str, int]:
    """The ledger's row of today and yesterday."""
    day = world.now // SECOND // DAY
    rows = world.ledger([day - 1, day])
    found: dict[str, int] = {}
    for row in rows.values():
        for name, n in row.items():
            found[name] = found.get(name, 0) + n
    return found


def test_the_same_owner_gets_the_same_reservation_again(world: World) -> None:
    first = take(world, "a")
    world.pass_time(1)
    again = take(world, "a")
    assert again.repeated
    assert (again.at, again.lease_until, again.candidate) == (first.at, first.lease_until, first.candidate)
    assert world.bucket(QUOTA).in_flight == 1
    assert money(world) == (0, 100)


def test_another_owner_learns_how_long_it_is_held(world: World) -> None:
    take(world, "a")
    world.pass_time(20)
    assert world.ask("a", QUOTA, owner="other") == Denied("held", "a", 40.0, 40.0)


@pytest.mark.parametrize("operation", ["sent", "settle", "release", "renew"])
def test_another_owner_can_do_nothing(world: World, operation: str) -> None:
    take(world, "a")
    match operation:
        case "sent":
            assert world.run(sent, "a", "other").verdict == "unknown"
        case "settle":
            assert world.settle("a", owner="other") == "unknown"
        case "release":
            assert world.run(release, "a", "other").verdict == "unknown"
        case _:
            assert world.run(renew, ["a", "nothing"], "other", 60.0).lost == ("a", "nothing")
    assert world.bucket(QUOTA).in_flight == 1
    assert money(world) == (0, 100)


def test_a_reservation_that_was_sent_is_found_as_sent(world: World) -> None:
    take(world, "a")
    assert world.run(sent, "a", "o").verdict == "sent"
    assert world.run(sent, "a", "o").verdict == "sent"
    again = take(world, "a")
    assert again.sent
    assert again.wait == 0


def test_after_its_lease_it_is_given_back(world: World) -> None:
    take(world, "a")
    before = world.available(QUOTA)
    world.pass_time(60)
    assert world.run(sweep).ended == 1
    assert world.run(sweep).ended == 0
    assert money(world) == (0, 0)
    assert world.bucket(QUOTA).in_flight == 0
    assert world.available(QUOTA) > before
    assert columns(world) == {}


def test_a_sent_call_counts_as_spent_until_it_is_settled(world: World) -> None:
    take(world, "a")
    world.run(sent, "a", "o")
    world.pass_time(60)
    assert world.run(sweep).ended == 1
    assert money(world) == (100, 0)
    assert columns(world) == {"presumed": 1, "presumed_cost": 100}
    assert world.run(sent, "a", "o").verdict == "swept"
    world.pass_time(3600)
    assert world.settle("a", amount=30, columns={"calls": 1}) == "corrected"
    assert money(world) == (30, 0)
    assert columns(world) == {"presumed": 0, "presumed_cost": 0, "cost": 30, "calls": 1}
    assert world.settle("a", amount=30, columns={"calls": 1}) == "repeated"
    assert money(world) == (30, 0)


def test_a_call_sent_after_its_sweep_is_charged(world: World) -> None:
    quota = Quota(rpm=60, headroom=1.0, burst=60.0)
    world.admitted("a", quota, costs={"rpm": 20}, amount=100, budgets=(BUDGET,), lease=1.0)
    world.pass_time(1)
    world.run(sweep)
    assert world.available(quota) == pytest.approx(60)
    assert world.settle("a", amount=70, costs=({"rpm": 20},)) == "corrected"
    assert world.available(quota) == pytest.approx(40)
    assert money(world) == (70, 0)
    assert world.bucket(quota).in_flight == 0


@pytest.mark.parametrize("first", ["ask", "sent"])
def test_an_ended_lease_is_noticed_before_any_sweep(world: World, first: str) -> None:
    take(world, "a")
    for name in "uvwxy":  # the oldest lease is swept first
        world.admitted(name, Quota(), lease=1.0)
    world.pass_time(60)
    if first == "ask":
        again = take(world, "a")
        assert not again.repeated
        assert again.lease_until == world.now + 60 * SECOND
    else:
        assert world.run(sent, "a", "o").verdict == "swept"
        assert money(world) == (0, 0)
        assert world.run(sent, "a", "o").verdict == "swept"


def test_a_lease_only_ever_grows(world: World) -> None:
    take(world, "a")
    world.pass_time(30)
    assert world.run(renew, ["a"], "o", 5.0).lost == ()
    assert take(world, "a").lease_until == START + 60 * SECOND
    assert world.run(renew, ["a"], "o", 60.0).lost == ()
    assert take(world, "a").lease_until == START + 90 * SECOND
    world.pass_time(59)
    assert world.run(sweep).ended == 0
    world.pass_time(1)
    assert world.run(sweep).ended == 1
    assert world.run(renew, ["a"], "o", 60.0).lost == ("a",)


def test_a_sweep_is_bounded_and_says_whether_there_is_more(world: World) -> None:
    for number in range(12):
        world.admitted(f"r{number}", Quota(), lease=1.0)
    world.pass_time(1)
    first = world.run(sweep, 5)
    assert (first.ended, first.more) == (5, True)
    # Each admission sweeps five, too.
    world.admitted("next", Quota(), lease=1.0)
    last = world.run(sweep, 5)
    assert (last.ended, last.more) == (2, False)


def test_a_settled_id_may_be_taken_again(world: World) -> None:
    take(world, "a")
    world.settle("a")
    assert world.run(sent, "a", "o").verdict == "unknown"
    assert world.run(renew, ["a"], "o", 60.0).lost == ("a",)
    assert not take(world, "a").repeated


def test_release_leaves_no_trace(world: World) -> None:
    before = world.available(QUOTA)
    take(world, "a")
    assert world.run(release, "a", "o").verdict == "settled"
    assert world.run(release, "a", "o").verdict == "repeated"
    assert world.settle("a", amount=50) == "repeated"
    assert world.available(QUOTA) == before
    assert money(world) == (0, 0)
    assert columns(world) == {}


def test_an_open_reservation_lives_as_long_as_the_money_it_holds(world: World) -> None:
    """However long no worker runs, the next sweep gives its money and its slot back."""
    take(world, "a")
    ttl = world.client.pttl
    for key in (world.keys.reservation("a"), world.keys.leases):
        assert ttl(key) >= ttl(world.keys.budget("w", "total")) - 1_000


def test_a_lease_without_a_reservation_is_cleared(world: World) -> None:
    take(world, "a")
    world.client.delete(world.keys.reservation("a"))
    world.pass_time(60)
    assert world.run(sweep).ended == 1
    assert world.run(snapshot).open_reservations == 0


@pytest.mark.parametrize("why", ["latch", "circuit"])
def test_revoked(world: World, why: str) -> None:
    take(world, "a")
    if why == "latch":
        world.run(block_account, "a", "pay the bill")
    else:
        world.run(set_circuit, "c", "open")
    departure = world.run(sent, "a", "o")
    assert (departure.verdict, departure.reason) == ("revoked", why)
    world.run(unblock_account, "a")
    world.run(set_circuit, "c", "closed")
    assert world.run(sent, "a", "o").verdict == "sent"


def test_a_swept_probe_makes_way_for_the_next(world: World) -> None:
    settings = CircuitSettings(volume=1, cooldown=1.0)
    world.admitted("bad", QUOTA, circuit=settings)
    world.run(settle, "bad", "o", Settlement(outcome="failure", circuit=settings))
    world.pass_time(2)
    assert world.admitted("probe", QUOTA, circuit=settings, lease=5.0).probe
    assert world.denied("other", QUOTA, circuit=settings).reason == "circuit"
    world.pass_time(5)
    assert world.admitted("other", QUOTA, circuit=settings).probe


def test_a_probe_is_out_while_its_reservation_lives(world: World) -> None:
    settings = CircuitSettings(volume=1, cooldown=1.0)
    world.admitted("bad", QUOTA, circuit=settings)
    world.run(settle, "bad", "o", Settlement(outcome="failure", circuit=settings))
    world.pass_time(2)
    assert world.admitted("probe", QUOTA, circuit=settings, lease=60.0, send_at_once=True).probe
    for _ in range(5):
        world.pass_time(50)
        assert not world.run(renew, ["probe"], "o", 60.0).lost
        assert world.denied("other", QUOTA, circuit=settings).reason == "circuit", "two probes at once"
    world.run(settle, "probe", "o", Settlement(outcome="ok", circuit=settings))
    assert world.circuit().state == "closed"
