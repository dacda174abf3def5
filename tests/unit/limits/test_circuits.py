"""Circuits: what opens them, which call probes them, and what is set by hand."""

import pytest

from limits.admission import release, sent, settle, sweep
from limits.circuit import CircuitSettings
from limits.feedback import set_circuit
from limits.reservation import Admitted, Denied, Impossible, Settlement, Throttle
from tests.support.provider_feedback import block_account, throttled
from tests.unit.limits.circuits import ANY, SETTINGS, end, fail
from tests.unit.limits.world import SECOND, World


def test_a_circuit_needs_volume_and_ratio(world: World) -> None:
    for number, outcome in enumerate(("failure", "ok", "ok", "failure")):
        world.admitted(f"r{number}", ANY, circuit=SETTINGS)
        assert end(world, f"r{number}", outcome) == (number == 3)


@pytest.mark.parametrize("outcome", ["ok", "neutral"])
def test_other_outcomes_do_not_open_a_circuit(world: World, outcome: str) -> None:
    for number in range(10):
        world.admitted(f"r{number}", ANY, circuit=SETTINGS)
        assert not end(world, f"r{number}", outcome)
    assert world.circuit().calls == (10 if outcome == "ok" else 0)


def test_the_configured_number_of_probes_closes_it(world: World) -> None:
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


def test_a_probe_without_a_verdict_lets_the_next_go(world: World) -> None:
    fail(world)
    world.pass_time(1.2)
    world.admitted("p1", ANY, circuit=SETTINGS)
    end(world, "p1", "neutral")
    assert world.admitted("p2", ANY, circuit=SETTINGS).probe
    world.run(release, "p2", "o")
    assert world.admitted("p3", ANY, circuit=SETTINGS).probe


def test_a_half_open_circuit_lets_only_the_probe_through(world: World) -> None:
    world.admitted("waiting", ANY)
    fail(world)
    world.pass_time(1.2)
    world.admitted("probe", ANY, circuit=SETTINGS)
    assert world.run(sent, "waiting", "o").verdict == "revoked"
    assert world.run(sent, "probe", "o").verdict == "sent"


def test_a_stalled_sender_learns_of_a_pause_and_a_block(world: World) -> None:
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
    """Without calls for a day the circuit is forgotten, and so is the generation of calls in flight."""
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
