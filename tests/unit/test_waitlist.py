"""Waitlists: who stands by for a call to end, in which order they are called, and how many."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from limits.bucket import Quota
from limits.reservation import Denied
from tasks.jobs import waitlist as module
from tasks.jobs.waitlist import AHEAD, BRIEF, SOON, Waiter, Waitlists
from workers.transport.gates import LONG

FAR = SOON + 100.0


def attempt(name: str = "r", bucket: str = "b", wait: float = 0.0, *, urgent: bool = False, **limits: int) -> Any:
    """An attempt at one target, of four calls in flight where no other limit is named. `wait`: until it may go."""
    charge = SimpleNamespace(bucket=bucket, quota=Quota(**(limits or {"concurrency": 4})), costs={"rpm": 1})
    candidates = [SimpleNamespace(charges=(charge,))]
    ask = SimpleNamespace(id=name, candidates=candidates, urgent=urgent, for_waitlist=True)
    return SimpleNamespace(ask=ask, route="route", routes=["route"], wait=wait)


def crowded(seconds: float) -> Denied:
    return Denied("concurrency", "b", seconds, seconds)


def flying(count: int, slots: int = 100) -> Waitlists:
    waitlists = Waitlists(lambda: slots)
    for number in range(count):
        waitlists.taken(attempt(f"r{number}"))
    return waitlists


def stands(waitlists: Waitlists, seconds: float) -> bool:
    return Waiter(waitlists).stand(attempt(), crowded(seconds))


def test_one_stands_by_for_each_call_in_flight_and_anybody_whose_place_is_near() -> None:
    waitlists = flying(2)
    assert [stands(waitlists, FAR) for _ in range(3)] == [True, True, False]
    assert [stands(waitlists, SOON) for _ in range(5)] == [True] * 5


def test_half_of_the_slots_stay_free() -> None:
    waitlists = flying(4, slots=6)
    assert [stands(waitlists, 0.1) for _ in range(5)] == [True, True, True, False, False]
    assert not stands(Waitlists(lambda: 1), 0.1)


def test_who_is_admitted_ahead_only_waits_too() -> None:
    waitlists, quick = Waitlists(lambda: 10), attempt(rpm=6_000)
    for number in range(3):
        waitlists.taken(attempt(f"ahead{number}", wait=AHEAD + 0.1, rpm=6_000))
    waitlists.taken(attempt("soon", wait=AHEAD, rpm=6_000))
    assert waitlists.wanted("b") == 2, "half of ten slots, of which three are taken"
    assert [Waiter(waitlists).stand(quick, paced(0.1)) for _ in range(3)] == [True, True, False]
    waitlists.left("ahead0")
    waitlists.free("ahead1")
    assert [Waiter(waitlists).stand(quick, paced(0.1)) for _ in range(3)] == [True, True, False]
    assert waitlists.wanted("b") == 0


def test_a_target_without_a_limit_has_no_line() -> None:
    waitlists = Waitlists(lambda: 100)
    waitlists.taken(attempt("r", rpd=1000))
    waitlists.free("r")
    assert waitlists.wanted("b") == 1


def test_more_are_wanted_where_calls_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    waitlists = flying(1)
    assert waitlists.wanted("b") == 1
    for number in range(30):
        waitlists.taken(attempt(f"short{number}"))
        waitlists.free(f"short{number}")
    assert waitlists.wanted("b") == 30, "as many as have ended in two seconds"
    now += 1.9
    assert waitlists.wanted("b") == 30
    now += 0.2
    assert waitlists.wanted("b") == 1


async def in_line(waitlists: Waitlists, name: str, went: list[str]) -> None:
    with waitlists.line() as line:
        assert line.stand(attempt(), crowded(0.1))
        await line.turn()
        went.append(name)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 3600.0)


@pytest.mark.usefixtures("nobody_looks")
def test_each_end_calls_the_next_and_who_goes_calls_who_is_behind() -> None:
    async def scene() -> list[list[str]]:
        waitlists, went, seen = flying(2), [], []
        waiting = [asyncio.create_task(in_line(waitlists, name, went)) for name in "abc"]
        await settled()
        seen.append(list(went))
        waitlists.free("r0")
        await settled()
        seen.append(list(went))
        await asyncio.gather(*waiting)
        return seen

    assert asyncio.run(scene()) == [[], ["a", "b", "c"]]


@pytest.mark.usefixtures("nobody_looks")
def test_who_asks_in_vain_keeps_its_place() -> None:
    async def scene() -> list[str]:
        waitlists, went = flying(2), []

        async def twice() -> None:
            with waitlists.line() as line:
                line.stand(attempt(), crowded(0.1))
                await line.turn()
                assert line.stand(attempt(), crowded(FAR)), "the wait may have become longer"
                await line.turn()
                went.append("first")

        first = asyncio.create_task(twice())
        second = asyncio.create_task(in_line(waitlists, "second", went))
        await settled()
        waitlists.free("r0")
        await settled()
        assert went == [], "one end is one call, and the first did not go"
        waitlists.free("r1")
        await asyncio.gather(first, second)
        return went

    assert asyncio.run(scene()) == ["first", "second"]


@pytest.mark.usefixtures("nobody_looks")
def test_who_is_broken_off_leaves_the_line_and_calls_the_next() -> None:
    async def scene() -> list[str]:
        waitlists, went = flying(1), []
        first = asyncio.create_task(in_line(waitlists, "first", went))
        second = asyncio.create_task(in_line(waitlists, "second", went))
        await settled()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await second
        assert waitlists.wanted("b") == 1
        return went

    assert asyncio.run(scene()) == ["second"]


def test_the_first_in_line_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)

    async def scene() -> list[str]:
        waitlists, went = Waitlists(lambda: 100), []
        async with asyncio.timeout(module.LOOK_BEHIND / 2):
            await in_line(waitlists, "alone", went)
        return went

    assert asyncio.run(scene()) == ["alone"]


def test_one_end_is_heard_once() -> None:
    waitlists = flying(1)
    waitlists.free("r0")
    waitlists.free("r0")
    waitlists.free("never")
    waitlists.taken(attempt("again"))
    assert [stands(waitlists, FAR) for _ in range(2)] == [True, False]


# Lines for a rate


def paced(opens: float, reason: str = "rpm") -> Denied:
    return Denied(reason, "b", 200.0, opens)


def test_for_a_rate_stand_as_many_as_it_lets_out_soon() -> None:
    waitlists, slow = Waitlists(lambda: 100), attempt(rpm=60, tpm=1_000_000)
    assert [Waiter(waitlists).stand(slow, paced(0.5)) for _ in range(5)] == [True, True, True, False, False]


def test_nobody_stands_for_what_opens_late_or_for_what_no_line_helps() -> None:
    waitlists, quick = Waitlists(lambda: 100), attempt(rpm=6_000)
    assert Waiter(waitlists).stand(quick, paced(LONG - 0.1))
    assert not Waiter(waitlists).stand(quick, paced(LONG + 0.1))
    assert Waiter(waitlists).stand(quick, paced(BRIEF - 0.1, "pause"))
    assert not Waiter(waitlists).stand(quick, paced(BRIEF + 0.1, "pause"))
    assert not Waiter(waitlists).stand(quick, Denied("budget", "all", None))
    assert not Waiter(waitlists).stand(quick, paced(0.1, "circuit"))


def test_who_comes_later_stands_behind_unasked_where_every_way_has_a_line() -> None:
    waitlists, quick = Waitlists(lambda: 100), attempt(rpm=6_000)
    other = attempt(rpm=6_000)
    other.ask.candidates.append(SimpleNamespace(charges=attempt(bucket="free", rpm=60).ask.candidates[0].charges))
    assert not Waiter(waitlists).behind(quick)
    assert Waiter(waitlists).stand(quick, paced(0.1))
    assert Waiter(waitlists).behind(quick)
    assert not Waiter(waitlists).behind(other), "it has a way without a line"
    assert waitlists.length("b") == 2


def test_the_first_asks_when_the_admission_said_and_calls_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 3600.0)

    async def scene() -> list[str]:
        waitlists, went = Waitlists(lambda: 100), []

        async def go(name: str) -> None:
            with waitlists.line() as line:
                assert line.stand(attempt(rpm=6_000), paced(0.05))
                await line.turn()
                went.append(name)

        async with asyncio.timeout(module.LOOK_BEHIND / 2):
            await asyncio.gather(*(go(name) for name in "abc"))
        return went

    assert asyncio.run(scene()) == ["a", "b", "c"]


def test_urgent_work_stands_in_a_line_of_its_own() -> None:
    waitlists, batch, now = Waitlists(lambda: 100), attempt(rpm=6_000), attempt(rpm=6_000, urgent=True)
    assert Waiter(waitlists).stand(batch, paced(0.1))
    first = Waiter(waitlists)
    assert not first.behind(now), "it may go before them"
    assert first.stand(now, paced(0.1))
    assert Waiter(waitlists).behind(now)
    assert (waitlists.length("b"), waitlists.length("urgent b")) == (1, 2)
    assert waitlists.first("urgent b") is first


def test_an_end_calls_urgent_work_first() -> None:
    waitlists, urgent = flying(2), attempt(urgent=True)
    batch, first = Waiter(waitlists), Waiter(waitlists)
    assert batch.stand(attempt(), crowded(0.1))
    assert first.stand(urgent, crowded(0.1))
    waitlists.free("r0")
    assert (first.called, batch.called) == (True, False)
    waitlists.free("r1")
    assert batch.called


async def rounds(waitlists: Waitlists, lets: list[int]) -> list[int]:
    """Ten stand in line for a rate that lets so many of them go each time they ask; how many ask at once each time."""
    asked: list[int] = []
    together = 0

    async def go(number: int) -> None:
        nonlocal together
        asking = attempt(f"r{number}", rpm=6_000)
        with waitlists.line() as line:
            assert line.stand(asking, paced(0.02))
            while await line.turn():
                together += 1
                await asyncio.sleep(0)  # the server answers all who have asked by now
                if together:
                    asked.append(together)
                    together = 0
                if lets and lets[0] > 0:
                    lets[0] -= 1
                    waitlists.taken(asking)
                    return
                if lets:
                    lets.pop(0)
                if not lets:
                    return
                assert line.stand(asking, paced(0.02))

    async with asyncio.timeout(module.LOOK_BEHIND / 2):
        await asyncio.gather(*(go(number) for number in range(10)))
    return asked


def test_for_a_rate_as_many_ask_at_once_as_went_the_last_time() -> None:
    asked = asyncio.run(rounds(Waitlists(lambda: 100), [3, 3]))
    assert asked[:4] == [1, 1, 1, 1], "one by one, until one is refused"
    assert asked[4] == 3


def test_who_becomes_the_first_while_another_asks_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_BEHIND", 3600.0)

    async def scene() -> bool:
        waitlists = flying(2)
        with waitlists.line() as second, waitlists.line() as third:
            first = waitlists.line()
            for line in (first, second, third):
                assert line.stand(attempt(), crowded(0.1))
            waits = asyncio.create_task(second.turn())
            await settled()
            third.call()
            first.leave()
            async with asyncio.timeout(5.0):
                return await waits

    assert asyncio.run(scene())


def test_who_stands_behind_and_has_no_other_way_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 3600.0)
    monkeypatch.setattr(module, "LOOK_BEHIND", 0.01)
    two = attempt()
    two.routes = ["route", "another"]

    async def scene() -> list[bool]:
        waitlists = flying(2)
        with waitlists.line() as first, waitlists.line() as second, waitlists.line() as third:
            for line, asking in ((first, attempt()), (second, attempt()), (third, two)):
                assert line.stand(asking, crowded(0.1))
            return [await second.turn(), await third.turn()]

    assert asyncio.run(scene()) == [False, True]
