"""Calls that fail, and a circuit that opens soon."""

from limits.admission import settle
from limits.bucket import Quota
from limits.circuit import CircuitSettings
from limits.reservation import Settlement
from tests.unit.limits.world import World

SETTINGS = CircuitSettings(window=10.0, volume=2, cooldown=1.0, longest_cooldown=4.0, probes=2, most_retries=2.0)
ANY = Quota()


def end(world: World, name: str, outcome: str) -> bool:
    """Settle a call; return whether that opened the circuit."""
    return world.run(settle, name, "o", Settlement(outcome=outcome, circuit=SETTINGS)).circuit_opened  # type: ignore[arg-type]


def fail(world: World, times: int = 2) -> None:
    for number in range(times):
        name = f"f{world.now}-{number}"
        world.admitted(name, ANY, circuit=SETTINGS, send_at_once=True)
        end(world, name, "failure")
