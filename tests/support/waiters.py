"""Attempts, denials and waiters as a waitlist meets them, for its tests."""

import asyncio
from types import SimpleNamespace
from typing import Any

from limits.bucket import Quota
from limits.reservation import Admitted, Answer, Denied
from tasks.jobs.bucket_calls import BucketCalls
from tasks.jobs.waitlist import Waitlist
from tasks.jobs.waitlists import Waitlists

ADMITTED = Admitted(0, 0, 0.0, 0, 0, probe=False, sent=True, repeated=False)


def attempt(name: str = "r", *buckets: str, wait: float = 0.0, urgent: bool = False, **limits: int) -> Any:
    """An attempt with a route for each bucket, which allows four calls in flight, or `limits`."""
    quota = Quota(**(limits or {"concurrency": 4}))
    charges = [(SimpleNamespace(bucket=bucket, quota=quota, costs={"rpm": 1}),) for bucket in buckets or ("b",)]
    candidates = [SimpleNamespace(charges=each, not_before=0.0, fallback=False) for each in charges]
    routes = [SimpleNamespace(buckets=[(each[0].bucket, quota)]) for each in charges]
    ask = SimpleNamespace(id=name, candidates=candidates, urgent=urgent)
    return SimpleNamespace(ask=ask, route=routes[0], routes=routes, wait=wait, asked_at=0.0)


def full(seconds: float = 0.1, bucket: str = "b") -> Denied:
    return Denied("concurrency", bucket, seconds, seconds)


def paced(opens: float, reason: str = "rpm") -> Denied:
    return Denied(reason, "b", 200.0, opens)


def flying(count: int, slots: int = 100) -> Waitlists:
    waitlists = Waitlists(lambda: slots)
    for number in range(count):
        waitlists.admitted(attempt(f"r{number}"))
    return waitlists


class Server:
    """What the admission answers: `lets` more calls, and then `denial`. `asked`: how many asked in each turn."""

    def __init__(self, lets: int, denial: Denied) -> None:
        self.lets = lets
        self.denial = denial
        self.asked: list[int] = []
        self._now = 0

    async def ask(self) -> Answer:
        self._now += 1
        await asyncio.sleep(0)  # the server answers every question of a turn together
        if self._now:
            self.asked.append(self._now)
            self._now = 0
        if self.lets > 0:
            self.lets -= 1
            return ADMITTED
        return self.denial


class Line:
    """Jobs that wait in one waitlist: `admitted` in their order, `gone` those that were sent away."""

    def __init__(self, waitlist: Waitlist, server: Server) -> None:
        self.waitlist = waitlist
        self.server = server
        self.admitted: list[str] = []
        self.answers: dict[str, Answer | None] = {}
        self.over: set[str] = set()
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def join(self, *names: str) -> None:
        for name in names:
            self.tasks[name] = asyncio.create_task(self._wait(name))

    async def _wait(self, name: str) -> None:
        self.answers[name] = await self.waitlist.wait(self.server.ask, lambda: name in self.over)
        if self.answers[name] is ADMITTED:
            self.admitted.append(name)

    async def end(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        await settled()


def waitlist(calls: BucketCalls | None = None) -> Waitlist:
    return Waitlist("b", calls or BucketCalls(lambda: None))


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
