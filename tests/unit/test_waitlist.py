"""Waitlists: how many jobs wait for a bucket, in which order they are woken, and when they ask."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from limits.bucket import Quota
from limits.reservation import Denied
from tasks.jobs import waitlist as module
from tasks.jobs.waitlist import AHEAD, SHORT_PAUSE, SOON, Waiter, Waitlists
from workers.transport.gates import LONG

FAR = SOON + 100.0


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


def joins(waitlists: Waitlists, seconds: float) -> bool:
    return Waiter(waitlists).join(attempt(), full(seconds))


def test_one_job_waits_for_each_call_in_flight_and_more_if_their_turn_is_soon() -> None:
    waitlists = flying(2)
    assert [joins(waitlists, FAR) for _ in range(3)] == [True, True, False]
    assert [joins(waitlists, SOON) for _ in range(5)] == [True] * 5


def test_half_of_the_slots_stay_free_of_waiters() -> None:
    waitlists = flying(4, slots=6)
    assert [joins(waitlists, 0.1) for _ in range(5)] == [True, True, True, False, False]
    assert not joins(Waitlists(lambda: 1), 0.1)


def test_a_job_admitted_ahead_of_time_takes_a_waiters_slot() -> None:
    waitlists, quick = Waitlists(lambda: 10), attempt(rpm=6_000)
    for number in range(3):
        waitlists.admitted(attempt(f"ahead{number}", wait=AHEAD + 0.1, rpm=6_000))
    waitlists.admitted(attempt("soon", wait=AHEAD, rpm=6_000))
    assert waitlists.wanted("b") == 2, "half of ten slots, of which three are taken"
    assert [Waiter(waitlists).join(quick, paced(0.1)) for _ in range(3)] == [True, True, False]
    waitlists.sent("ahead0")
    waitlists.ended("ahead1")
    assert [Waiter(waitlists).join(quick, paced(0.1)) for _ in range(3)] == [True, True, False]
    assert waitlists.wanted("b") == 0


def test_a_bucket_without_a_rate_wants_one_waiter() -> None:
    waitlists = Waitlists(lambda: 100)
    waitlists.admitted(attempt("r", rpd=1000))
    waitlists.ended("r")
    assert waitlists.wanted("b") == 1


def test_more_waiters_are_wanted_if_calls_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    waitlists = flying(1)
    assert waitlists.wanted("b") == 1
    for number in range(30):
        waitlists.admitted(attempt(f"short{number}"))
        waitlists.ended(f"short{number}")
    assert waitlists.wanted("b") == 30, "the calls that ended in two seconds"
    now += 1.9
    assert waitlists.wanted("b") == 30
    now += 0.2
    assert waitlists.wanted("b") == 1


async def wait_in_line(waitlists: Waitlists, name: str, admitted: list[str]) -> None:
    with waitlists.waiter() as waiter:
        assert waiter.join(attempt(), full(0.1))
        await waiter.turn()
        admitted.append(name)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL", 3600.0)


@pytest.mark.usefixtures("no_polls")
def test_each_ended_call_wakes_a_waiter_and_an_admitted_waiter_the_next() -> None:
    async def scene() -> list[list[str]]:
        waitlists, admitted, seen = flying(2), [], []
        waiting = [asyncio.create_task(wait_in_line(waitlists, name, admitted)) for name in "abc"]
        await settled()
        seen.append(list(admitted))
        waitlists.ended("r0")
        await settled()
        seen.append(list(admitted))
        await asyncio.gather(*waiting)
        return seen

    assert asyncio.run(scene()) == [[], ["a", "b", "c"]]


@pytest.mark.usefixtures("no_polls")
def test_a_denied_waiter_keeps_its_place() -> None:
    async def scene() -> list[str]:
        waitlists, admitted = flying(2), []

        async def twice() -> None:
            with waitlists.waiter() as waiter:
                waiter.join(attempt(), full(0.1))
                await waiter.turn()
                assert waiter.join(attempt(), full(FAR)), "the wait may have become longer"
                await waiter.turn()
                admitted.append("first")

        first = asyncio.create_task(twice())
        second = asyncio.create_task(wait_in_line(waitlists, "second", admitted))
        await settled()
        waitlists.ended("r0")
        await settled()
        assert admitted == [], "one ended call wakes one waiter, which was denied"
        waitlists.ended("r1")
        await asyncio.gather(first, second)
        return admitted

    assert asyncio.run(scene()) == ["first", "second"]


@pytest.mark.usefixtures("no_polls")
def test_a_cancelled_waiter_wakes_the_next() -> None:
    async def scene() -> list[str]:
        waitlists, admitted = flying(1), []
        first = asyncio.create_task(wait_in_line(waitlists, "first", admitted))
        second = asyncio.create_task(wait_in_line(waitlists, "second", admitted))
        await settled()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await second
        assert waitlists.wanted("b") == 1
        return admitted

    assert asyncio.run(scene()) == ["second"]


def test_the_first_waiter_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL", 0.01)

    async def scene() -> list[str]:
        waitlists, admitted = Waitlists(lambda: 100), []
        async with asyncio.timeout(module.RECHECK / 2):
            await wait_in_line(waitlists, "alone", admitted)
        return admitted

    assert asyncio.run(scene()) == ["alone"]


def test_an_ended_call_counts_once() -> None:
    waitlists = flying(1)
    waitlists.ended("r0")
    waitlists.ended("r0")
    waitlists.ended("never")
    waitlists.admitted(attempt("again"))
    assert [joins(waitlists, FAR) for _ in range(2)] == [True, False]


# Waitlists for a rate


def paced(opens: float, reason: str = "rpm") -> Denied:
    return Denied(reason, "b", 200.0, opens)


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
