"""Waitlists of a rate: who waits for it in the worker, when they ask, and how many at once."""

import asyncio
from types import SimpleNamespace

import pytest

from limits.reservation import Denied
from tasks.jobs import waitlist as module
from tasks.jobs.waitlist import SHORT_PAUSE, SOON, Waiter, Waitlists
from tests.support.waiters import attempt, flying, full, paced, settled
from workers.transport.gates import LONG

FAR = SOON + 100.0


def test_as_many_wait_for_a_rate_as_it_allows_soon() -> None:
    waitlists, slow = Waitlists(lambda: 100), attempt(rpm=60, tpm=1_000_000)
    assert [Waiter(waitlists).join(slow, paced(0.5)) for _ in range(5)] == [True, True, True, False, False]


def test_no_job_waits_here_for_a_late_opening_or_other_denials() -> None:
    waitlists, quick = Waitlists(lambda: 100), attempt(rpm=6_000)
    assert Waiter(waitlists).join(quick, paced(LONG - 0.1))
    assert not Waiter(waitlists).join(quick, paced(LONG + 0.1))
    assert Waiter(waitlists).join(quick, paced(SHORT_PAUSE - 0.1, "pause"))
    assert not Waiter(waitlists).join(quick, paced(SHORT_PAUSE + 0.1, "pause"))
    assert not Waiter(waitlists).join(quick, Denied("budget", "all", None))
    assert not Waiter(waitlists).join(quick, paced(0.1, "circuit"))


def test_a_later_job_queues_without_asking_if_every_route_has_waiters() -> None:
    waitlists, quick = Waitlists(lambda: 100), attempt(rpm=6_000)
    other = attempt(rpm=6_000)
    other.ask.candidates.append(SimpleNamespace(charges=attempt(bucket="free", rpm=60).ask.candidates[0].charges))
    assert not Waiter(waitlists).queues_behind(quick)
    assert Waiter(waitlists).join(quick, paced(0.1))
    assert Waiter(waitlists).queues_behind(quick)
    assert not Waiter(waitlists).queues_behind(other), "it has a route without waiters"
    assert waitlists.length("b") == 2


def test_the_first_waiter_asks_at_the_stated_time_and_wakes_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL", 3600.0)

    async def scene() -> list[str]:
        waitlists, admitted = Waitlists(lambda: 100), []

        async def go(name: str) -> None:
            with waitlists.waiter() as waiter:
                assert waiter.join(attempt(rpm=6_000), paced(0.05))
                await waiter.turn()
                admitted.append(name)

        async with asyncio.timeout(module.RECHECK / 2):
            await asyncio.gather(*(go(name) for name in "abc"))
        return admitted

    assert asyncio.run(scene()) == ["a", "b", "c"]


def test_urgent_jobs_have_their_own_waitlist() -> None:
    waitlists, batch, now = Waitlists(lambda: 100), attempt(rpm=6_000), attempt(rpm=6_000, urgent=True)
    assert Waiter(waitlists).join(batch, paced(0.1))
    first = Waiter(waitlists)
    assert not first.queues_behind(now), "it may ask before them"
    assert first.join(now, paced(0.1))
    assert Waiter(waitlists).queues_behind(now)
    assert (waitlists.length("b"), waitlists.length("urgent b")) == (1, 2)
    assert waitlists.first("urgent b") is first


def test_an_ended_call_wakes_urgent_jobs_first() -> None:
    waitlists, urgent = flying(2), attempt(urgent=True)
    batch, first = Waiter(waitlists), Waiter(waitlists)
    assert batch.join(attempt(), full(0.1))
    assert first.join(urgent, full(0.1))
    waitlists.ended("r0")
    assert (first.may_ask, batch.may_ask) == (True, False)
    waitlists.ended("r1")
    assert batch.may_ask


async def rounds(waitlists: Waitlists, lets: list[int]) -> list[int]:
    """Let ten jobs wait for a rate that admits `lets[n]` of them the nth time. Returns how many ask at once."""
    asked: list[int] = []
    together = 0

    async def go(number: int) -> None:
        nonlocal together
        asking = attempt(f"r{number}", rpm=6_000)
        with waitlists.waiter() as waiter:
            assert waiter.join(asking, paced(0.02))
            while await waiter.turn():
                together += 1
                await asyncio.sleep(0)  # the server answers every question asked by now
                if together:
                    asked.append(together)
                    together = 0
                if lets and lets[0] > 0:
                    lets[0] -= 1
                    waitlists.admitted(asking)
                    return
                if lets:
                    lets.pop(0)
                if not lets:
                    return
                assert waiter.join(asking, paced(0.02))

    async with asyncio.timeout(module.RECHECK / 2):
        await asyncio.gather(*(go(number) for number in range(10)))
    return asked


def test_as_many_ask_together_as_were_admitted_last_time() -> None:
    asked = asyncio.run(rounds(Waitlists(lambda: 100), [3, 3]))
    assert asked[:4] == [1, 1, 1, 1], "one by one, until one is denied"
    assert asked[4] == 3


def test_a_waiter_promoted_while_another_asks_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECHECK", 3600.0)

    async def scene() -> bool:
        waitlists = flying(2)
        with waitlists.waiter() as second, waitlists.waiter() as third:
            first = waitlists.waiter()
            for waiter in (first, second, third):
                assert waiter.join(attempt(), full(0.1))
            waits = asyncio.create_task(second.turn())
            await settled()
            third.wake()
            first.leave()
            async with asyncio.timeout(5.0):
                return await waits

    assert asyncio.run(scene())


def test_a_later_waiter_with_one_route_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL", 3600.0)
    monkeypatch.setattr(module, "RECHECK", 0.01)
    two = attempt()
    two.routes = ["route", "another"]

    async def scene() -> list[bool]:
        waitlists = flying(2)
        with waitlists.waiter() as first, waitlists.waiter() as second, waitlists.waiter() as third:
            for waiter, asking in ((first, attempt()), (second, attempt()), (third, two)):
                assert waiter.join(asking, full(0.1))
            return [await second.turn(), await third.turn()]

    assert asyncio.run(scene()) == [False, True]
