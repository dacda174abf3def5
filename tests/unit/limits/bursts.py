"""Calls on a bucket whose burst is learned."""

from limits.bucket import Quota
from limits.reservation import Denied
from tests.unit.limits.world import World

RPM = 600  # ten a second
AUTO = Quota(rpm=RPM, headroom=1.0)
FIXED = Quota(rpm=RPM, headroom=1.0, burst=5.0)


def call(world: World, name: str, quota: Quota = AUTO) -> None:
    assert world.admitted(name, quota, send_at_once=True, max_wait=0.0).sent


def press(world: World, seconds: int, quota: Quota = AUTO) -> None:
    """Every second, send one call and have another denied."""
    for _ in range(seconds):
        world.pass_time(1)
        world.ask(f"p{world.now}", quota, max_wait=0.0, send_at_once=True)
        world.denied(f"q{world.now}", quota, costs={"rpm": RPM}, max_wait=0.0)


def drain(world: World, quota: Quota) -> int:
    """Send calls until one is denied; return how many were sent."""
    for number in range(10_000):
        answer = world.ask(f"d{world.now}-{number}", quota, max_wait=0.0, send_at_once=True)
        if isinstance(answer, Denied):
            return number
    raise AssertionError("nothing is denied")
