"""Attempts and denials as a waitlist meets them, for its tests."""

import asyncio
from types import SimpleNamespace
from typing import Any

from limits.bucket import Quota
from limits.reservation import Denied
from tasks.jobs.waitlist import Waitlists


def attempt(name: str = "r", bucket: str = "b", wait: float = 0.0, *, urgent: bool = False, **limits: int) -> Any:
    """An attempt at a target that allows four calls in flight, or `limits`. `wait`: seconds until it may be sent."""
    charge = SimpleNamespace(bucket=bucket, quota=Quota(**(limits or {"concurrency": 4})), costs={"rpm": 1})
    candidates = [SimpleNamespace(charges=(charge,))]
    ask = SimpleNamespace(id=name, candidates=candidates, urgent=urgent, for_waitlist=True)
    return SimpleNamespace(ask=ask, route="route", routes=["route"], wait=wait)


def full(seconds: float) -> Denied:
    return Denied("concurrency", "b", seconds, seconds)


def flying(count: int, slots: int = 100) -> Waitlists:
    waitlists = Waitlists(lambda: slots)
    for number in range(count):
        waitlists.admitted(attempt(f"r{number}"))
    return waitlists


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def paced(opens: float, reason: str = "rpm") -> Denied:
    return Denied(reason, "b", 200.0, opens)
