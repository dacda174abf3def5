"""A worker's waitlists: which one a job joins, and how many jobs may wait."""

import asyncio

from tasks.jobs.bucket_calls import FIRST
from tasks.jobs.waitlists import AHEAD, Waitlists
from tests.support.waiters import Line, Server, attempt, flying, full, paced, settled


def waiting(waitlists: Waitlists, count: int, **more: bool) -> Line:
    """Jobs that wait for the full bucket "b"."""
    joined = waitlists.after_denial(attempt("w", **more), full())  # type: ignore[arg-type]
    assert joined is not None
    line = Line(joined, Server(0, full()))
    line.join(*(f"{number}" for number in range(count)))
    return line


def joins(waitlists: Waitlists, count: int, seconds: float) -> list[bool]:
    """Whether each of `count` jobs that are denied in turn finds room; each that does waits."""
    found: list[bool] = []

    async def use() -> None:
        lines = []
        for _ in range(count):
            denied = paced(seconds) if seconds < 5 else full(seconds)
            joined = waitlists.after_denial(attempt(rpm=6_000) if seconds < 5 else attempt(), denied)
            found.append(joined is not None)
            if joined is not None:
                line = Line(joined, Server(0, denied))
                line.join("a")
                lines.append(line)
                await settled()
        for line in lines:
            await line.end()

    asyncio.run(use())
    return found


def test_half_of_the_slots_stay_free_of_waiters() -> None:
    assert joins(flying(4, slots=6), 5, 0.1) == [True, True, True, False, False]
    assert joins(Waitlists(lambda: 1), 1, 0.1) == [False]


def test_as_many_wait_for_a_rate_as_it_allows_soon() -> None:
    async def use() -> list[bool]:
        waitlists, slow, found = Waitlists(lambda: 100), attempt(rpm=60, tpm=1_000_000), []
        lines = []
        for _ in range(5):
            joined = waitlists.after_denial(slow, paced(0.5))
            found.append(joined is not None)
            if joined is not None:
                lines.append(Line(joined, Server(0, paced(0.5))))
                lines[-1].join("a")
                await settled()
        for line in lines:
            await line.end()
        return found

    assert asyncio.run(use()) == [True, True, True, False, False]


def test_a_job_admitted_ahead_of_time_takes_a_waiters_slot() -> None:
    waitlists = Waitlists(lambda: 10)
    for number in range(3):
        waitlists.admitted(attempt(f"ahead{number}", wait=AHEAD + 0.1, rpm=6_000))
    waitlists.admitted(attempt("soon", wait=AHEAD, rpm=6_000))
    waitlist = waitlists.of(attempt(rpm=6_000))
    assert waitlists.wanted(waitlist) == 2, "half of ten slots, of which three are taken"
    waitlists.cleared(attempt("ahead0"))
    waitlists.ended("ahead1")
    assert waitlists.wanted(waitlist) == 4


def test_a_bucket_without_a_rate_wants_one_waiter() -> None:
    waitlists = Waitlists(lambda: 100)
    assert waitlists.wanted(waitlists.of(attempt(rpd=1000))) == 1


def test_one_job_is_wanted_for_each_call_in_flight_and_each_ends_once() -> None:
    waitlists = flying(3)
    waitlist = waitlists.of(attempt())
    assert waitlists.wanted(waitlist) == 3
    assert waitlist.calls.in_flight == 3
    for _ in range(2):
        waitlists.ended("r0")
    waitlists.ended("never")
    assert waitlist.calls.in_flight == 2


def test_an_ended_call_wakes_urgent_jobs_first() -> None:
    async def use() -> None:
        waitlists = flying(2)
        batch, urgent = waiting(waitlists, 1), waiting(waitlists, 1, urgent=True)
        assert batch.waitlist is not urgent.waitlist
        await settled()
        urgent.server.lets = batch.server.lets = 1
        waitlists.ended("r0")
        await settled()
        assert (len(urgent.admitted), len(batch.admitted)) == (1, 0)
        waitlists.ended("r1")
        await settled()
        assert len(batch.admitted) == 1
        await batch.end()

    asyncio.run(use())


def test_a_job_asks_through_a_route_that_is_free() -> None:
    async def use() -> None:
        waitlists, two = flying(2), attempt("two", "b", "free")
        assert waitlists.of(two).bucket == "b"
        line = waiting(waitlists, 1)
        await settled()
        assert waitlists.of(two).bucket == "free"
        assert waitlists.of(attempt()) is line.waitlist, "its only route has waiters"
        assert waitlists.of(attempt(urgent=True)) is not line.waitlist
        two.ask.candidates[1].not_before = 1.0
        assert waitlists.of(two) is line.waitlist
        await line.end()

    asyncio.run(use())


def test_a_job_may_always_wait_for_its_start_but_not_for_a_full_bucket() -> None:
    async def use() -> None:
        waitlists = Waitlists(lambda: 2)
        waitlist = waitlists.of(attempt(rpm=60))
        for _ in range(FIRST):
            waitlist.calls.start()
        assert not waitlist.free
        line = Line(waitlist, Server(0, paced(0.1)))
        line.join(*"abc")
        await settled()
        assert waitlists.may_join(waitlist, attempt(rpm=60))
        waitlist.calls.end_start()
        waitlist.wake()
        await settled()
        assert waitlist.full
        assert not waitlists.may_join(waitlist, attempt(rpm=60))
        waitlists.recheck()
        await settled()
        assert len(waitlist.waiters) == 1, "no more than half of the slots wait for it"
        await line.end()

    asyncio.run(use())


def test_no_more_jobs_are_claimed_than_may_start() -> None:
    async def use() -> None:
        waitlists = Waitlists(lambda: 100)
        waitlist = waitlists.of(attempt(rpm=6_000))
        assert waitlists.credit(waitlist) == FIRST
        for _ in range(FIRST):
            waitlist.calls.start()
        line = Line(waitlist, Server(9, paced(0.1)))
        line.join("a")
        await settled()
        assert waitlists.credit(waitlist) == -1
        for _ in range(FIRST):
            waitlist.calls.end_start()
        waitlist.wake()
        await line.tasks["a"]
        assert waitlists.credit(waitlist) == FIRST
        waitlist.denied(paced(0.1))
        assert waitlists.credit(waitlist) == waitlists.wanted(waitlist) == 1, "its bucket is full"

    asyncio.run(use())
