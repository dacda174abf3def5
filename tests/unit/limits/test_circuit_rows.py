"""Circuits after a long outage, and retries that were not made."""

import pytest

from limits.admission import release, sweep
from limits.reservation import Denied
from limits.snapshot import snapshot
from tests.support.provider_feedback import block_account
from tests.unit.limits.circuits import ANY, SETTINGS, end, fail
from tests.unit.limits.world import SECOND, World


def cooldown(world: World) -> float:
    """Seconds until the circuit lets a probe through."""
    circuit = world.circuit()
    assert circuit.state == "open"
    return (circuit.until - world.now) / SECOND


def probe(world: World, outcome: str) -> None:
    name = f"probe{world.now}"
    assert world.admitted(name, ANY, circuit=SETTINGS, send_at_once=True).probe
    end(world, name, outcome)


def long_outage(world: World) -> None:
    fail(world)
    for _ in range(50):
        world.pass_time(5)
        probe(world, "failure")
    assert cooldown(world) == pytest.approx(4, rel=0.21)
    for _ in range(SETTINGS.probes):
        world.pass_time(5)
        probe(world, "ok")
    assert world.circuit().state == "closed"


def test_a_long_outage_is_forgotten_when_all_has_been_well_for_a_while(world: World) -> None:
    long_outage(world)
    world.pass_time(5)
    fail(world)
    assert cooldown(world) == pytest.approx(1, rel=0.21)


def test_a_circuit_that_soon_fails_again_stays_open_longer(world: World) -> None:
    long_outage(world)
    for most in (2, 2):  # one down when it closed, one up when it opened again
        fail(world)
        assert cooldown(world) == pytest.approx(most, rel=0.21)
        world.pass_time(most * 1.21)
        for _ in range(SETTINGS.probes):
            probe(world, "ok")
            world.pass_time(0.1)


def test_a_retry_that_was_not_made_may_be_made_by_another(world: World) -> None:
    for name in ("a", "b"):
        world.admitted(name, ANY, retry=True, circuit=SETTINGS)
    assert isinstance(world.ask("c", ANY, retry=True, circuit=SETTINGS), Denied)
    world.run(block_account, "a", "pay the bill")
    world.run(release, "a", "o")
    world.run(release, "a", "o")
    state = world.run(snapshot, circuits=["c"], circuit=SETTINGS).circuits[0]
    assert state.retries_left == pytest.approx(1, abs=0.01)


def test_an_unsent_retry_is_not_lost_when_its_lease_ends(world: World) -> None:
    for name in ("a", "b"):
        world.admitted(name, ANY, retry=True, circuit=SETTINGS, lease=0.1, send_at_once=name == "b")
    world.pass_time(0.2)
    world.run(sweep)
    state = world.run(snapshot, circuits=["c"], circuit=SETTINGS).circuits[0]
    assert state.retries_left == pytest.approx(1.2, abs=0.01), "that of the one that left is spent"


def test_calls_before_the_window_are_not_shown(world: World) -> None:
    world.admitted("a", ANY, circuit=SETTINGS, send_at_once=True)
    end(world, "a", "failure")
    show = world.call(snapshot, circuits=["c"], circuit=SETTINGS)
    world.pass_time(11)
    (before, after) = (
        world.server.run(show).circuits[0],
        world.run(snapshot, circuits=["c"], circuit=SETTINGS).circuits[0],
    )
    assert (before.calls, before.failures) == (1, 1)
    assert (after.calls, after.failures) == (0, 0)
    assert after.retries_left == 2.0
