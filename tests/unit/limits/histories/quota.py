"""Quotas and costs for histories, and the rate limiter's formula for them."""

from limits.bucket import PERIODS, Quota
from tests.unit.limits.world import SECOND, World

DAY = 86_400


def rate(quota: Quota, name: str) -> float:
    """Units per µs that a quota allows."""
    return quota.limits[name] * quota.least / (PERIODS[name] * SECOND)


def capacity(quota: Quota, name: str) -> float:
    """Units that may be sent at once."""
    seconds = PERIODS[name] if PERIODS[name] == DAY else quota.burst
    assert seconds != "auto"
    return rate(quota, name) * float(seconds) * SECOND


def some_quota(world: World, **more: int) -> Quota:
    choose = world.random.choice
    burst: float = choose([1.0, 3.0, 10.0, 60.0])
    return Quota(
        rpm=choose([60, 600, 3000]), tpm=choose([60_000, 600_000]), rpd=choose([40, 5000]), burst=burst, **more
    )


def some_costs(world: World, quota: Quota) -> dict[str, int]:
    tokens = world.random.choice([0, 500, 2_000, 20_000])
    return {"rpm": 1, "tpm": min(tokens, quota.tpm or tokens), "rpd": 1}
