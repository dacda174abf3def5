"""Calls on a provider that counts by the second."""

from limits.admission import release, sent
from limits.bucket import Quota
from limits.reservation import Level
from tests.unit.limits.world import SECOND, START, World

RPM = 1_200
SHARE = RPM // 60
QUOTA = Quota(rpm=RPM)
ZERO = START + SECOND
"""When most of these tests send the first call; they learn the second before it."""


def begin(world: World, quota: Quota = QUOTA, *, phase: float = 0.0, calls: int = SHARE) -> None:
    """Send a second's worth. A quarter of a second later, answers say that it ends a second after `phase`."""
    world.pass_time(0.05)
    for number in range(calls):
        assert world.admitted(f"first{number}", quota, send_at_once=True, max_wait=0.0).sent
    world.pass_time(0.25)
    for number in range(calls):
        world.level(f"first{number}", rpm=Level(quota.limits["rpm"], calls - 1 - number, 0.95 + phase))


def learn(world: World, quota: Quota = QUOTA, *, calls: int = SHARE) -> None:
    """Begin, and send one more call whose answer agrees. Ends in the last tenth of a second, too late to send."""
    begin(world, quota, calls=calls)
    world.now = world.admitted("warm", quota).at
    assert world.run(sent, "warm", "o").verdict == "sent"
    world.level("warm", rpm=Level(quota.limits["rpm"], calls - 1, (ZERO + SECOND - world.now) / SECOND))
    world.now = ZERO + 9 * SECOND // 10


def booked(world: World, name: str, quota: Quota = QUOTA, since: int = ZERO, **options: float) -> float:
    """Admit a call; return its time, in seconds after `since`."""
    return (world.admitted(name, quota, send_at_once=True, **options).at - since) / SECOND


def times(world: World, calls: int, quota: Quota = QUOTA, since: int = ZERO) -> list[float]:
    return [booked(world, f"call{number}", quota, since) for number in range(calls)]


def tell(world: World, name: str) -> None:
    """Send calls whose answers agree on the end of a second, though they leave much or little."""
    for number, left in enumerate((19, 0, 10, 10)):
        world.now = max(world.now, world.admitted(f"{name}{number}", QUOTA, max_wait=5.0).at)
        assert world.run(sent, f"{name}{number}", "o").verdict == "sent"
        world.level(f"{name}{number}", rpm=Level(RPM, left, 1.0 - (world.now + 1 - START) % SECOND / SECOND))


def dense(world: World, name: str) -> bool:
    """Whether calls are sent in the first half of a second."""
    world.now += (99 * SECOND // 100 - (world.now - START)) % SECOND
    found = [booked(world, f"{name}-{number}") for number in range(2 * SHARE)]
    for number in range(2 * SHARE):
        world.run(release, f"{name}-{number}", "o")
    return max(at % 1 for at in found[SHARE:]) < 0.5


def odd(world: World, name: str) -> None:
    world.now = world.admitted(name, QUOTA, max_wait=9.0).at + 1
    assert world.run(sent, name, "o").verdict == "sent"
    phase = (world.now - START) % SECOND / SECOND
    world.level(name, rpm=Level(RPM, 5, (1.5 - phase) % 1))
    world.pass_time(3)
