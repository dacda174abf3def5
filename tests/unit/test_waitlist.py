"""Waitlists: how many jobs wait for a bucket, in which order they are woken, and when they ask."""

import asyncio
from types import SimpleNamespace

import pytest

from tasks.jobs import waitlist as module
from tasks.jobs.waitlist import AHEAD, SOON, Waiter, Waitlists
from tests.support.waiters import attempt, flying, full, paced, settled

FAR = SOON + 100.0


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
