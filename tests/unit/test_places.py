"""Places: who stands by for a call to end, in which order they are called, and how many."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import places as module
from tasks.places import SOON, Places, Standing

LONG = SOON + 100.0


def attempt(name: str, bucket: str = "b", concurrency: int | None = 4) -> Any:
    charge = SimpleNamespace(bucket=bucket, quota=SimpleNamespace(concurrency=concurrency))
    ask = SimpleNamespace(id=name, candidates=[SimpleNamespace(charges=(charge,))])
    return SimpleNamespace(ask=ask, way="way", ways=["way"])


def flying(count: int, slots: int = 100) -> Places:
    places = Places(lambda: slots)
    for number in range(count):
        places.taken(attempt(f"r{number}"))
    return places


def stands(places: Places, seconds: float) -> bool:
    return Standing(places).stand("b", seconds)


def test_one_stands_by_for_each_call_in_flight_and_anybody_whose_place_is_near() -> None:
    places = flying(2)
    assert [stands(places, LONG) for _ in range(3)] == [True, True, False]
    assert [stands(places, SOON) for _ in range(5)] == [True] * 5


def test_half_of_the_slots_stay_free() -> None:
    places = flying(4, slots=6)
    assert [stands(places, 0.1) for _ in range(5)] == [True, True, True, False, False]
    assert not stands(Places(lambda: 1), 0.1)


def test_a_target_without_a_limit_has_no_line() -> None:
    places = Places(lambda: 100)
    places.taken(attempt("r", concurrency=None))
    places.free("r")
    assert places.wanted("b") == 1


def test_more_are_wanted_where_calls_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    places = flying(1)
    assert places.wanted("b") == 1
    for number in range(30):
        places.taken(attempt(f"short{number}"))
        places.free(f"short{number}")
    assert places.wanted("b") == 30, "as many as have ended in two seconds"
    now += 1.9
    assert places.wanted("b") == 30
    now += 0.2
    assert places.wanted("b") == 1


async def in_line(places: Places, name: str, went: list[str]) -> None:
    with places.line() as line:
        assert line.stand("b", 0.1)
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
        places, went, seen = flying(2), [], []
        waiting = [asyncio.create_task(in_line(places, name, went)) for name in "abc"]
        await settled()
        seen.append(list(went))
        places.free("r0")
        await settled()
        seen.append(list(went))
        await asyncio.gather(*waiting)
        return seen

    assert asyncio.run(scene()) == [[], ["a", "b", "c"]]


@pytest.mark.usefixtures("nobody_looks")
def test_who_asks_in_vain_keeps_its_place() -> None:
    async def scene() -> list[str]:
        places, went = flying(2), []

        async def twice() -> None:
            with places.line() as line:
                line.stand("b", 0.1)
                await line.turn()
                assert line.stand("b", LONG), "the wait may have become longer"
                await line.turn()
                went.append("first")

        first = asyncio.create_task(twice())
        second = asyncio.create_task(in_line(places, "second", went))
        await settled()
        places.free("r0")
        await settled()
        assert went == [], "one end is one call, and the first did not go"
        places.free("r1")
        await asyncio.gather(first, second)
        return went

    assert asyncio.run(scene()) == ["first", "second"]


@pytest.mark.usefixtures("nobody_looks")
def test_who_is_broken_off_leaves_the_line_and_calls_the_next() -> None:
    async def scene() -> list[str]:
        places, went = flying(1), []
        first = asyncio.create_task(in_line(places, "first", went))
        second = asyncio.create_task(in_line(places, "second", went))
        await settled()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await second
        assert places.wanted("b") == 1
        return went

    assert asyncio.run(scene()) == ["second"]


def test_the_first_in_line_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)

    async def scene() -> list[str]:
        places, went = Places(lambda: 100), []
        async with asyncio.timeout(module.LOOK_BEHIND / 2):
            await in_line(places, "alone", went)
        return went

    assert asyncio.run(scene()) == ["alone"]


def test_one_end_is_heard_once() -> None:
    places = flying(1)
    places.free("r0")
    places.free("r0")
    places.free("never")
    places.taken(attempt("again"))
    assert [stands(places, LONG) for _ in range(2)] == [True, False]
