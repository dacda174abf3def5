"""This worker's calls of a bucket: how many start together, and how a 429 holds back those that aren't written yet."""

import asyncio
from typing import Any

import pytest

from tasks.jobs.bucket_calls import CALLS, DEFAULT_PAUSE, FIRST, QUIET, SUPPLY, BucketCalls
from tests.simulator import Simulator
from tests.unit.providers.conftest import KEY, chat, with_provider
from workers.providers import Provider
from workers.providers.bodies import CHAT
from workers.providers.errors import NotSent


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def woken() -> list[bool]:
    return []


@pytest.fixture
def calls(clock: Clock, woken: list[bool]) -> BucketCalls:
    return BucketCalls(lambda: woken.append(True), clock)


def test_few_start_at_first_and_another_as_a_start_ends(calls: BucketCalls, woken: list[bool]) -> None:
    for _ in range(FIRST):
        assert calls.room() > 0
        calls.start()
    assert calls.room() == 0
    calls.end_start()
    assert calls.room() == 1
    assert woken, "a waiter may start"


def test_calls_widen_the_start_and_a_429_resets_it(calls: BucketCalls, clock: Clock) -> None:
    for _ in range(4 * CALLS):
        calls.sent()
    assert calls.room() == FIRST, "nothing is known yet of those that have just been sent"
    clock.now += QUIET
    assert calls.room() == FIRST + 4
    for _ in range(4 * CALLS):
        calls.sent()
    calls.throttled(0.0, "call")
    calls.settled("call")
    clock.now += QUIET
    assert calls.room() == FIRST, "as few as at first"


def test_the_supply_is_what_was_used_lately(calls: BucketCalls, clock: Clock) -> None:
    assert calls.supply() == 1
    for _ in range(30):
        calls.used()
    clock.now += SUPPLY - 0.1
    assert calls.supply() == 30
    clock.now += 0.2
    assert calls.supply() == 1
    calls.in_flight = 7
    assert calls.supply() == 7


def test_a_429_stops_the_bucket_until_the_admission_knows(calls: BucketCalls, clock: Clock, woken: list[bool]) -> None:
    assert calls.allows(99.0)
    calls.throttled(2.0, "call 1")
    calls.throttled(0.5, "call 2")
    assert calls.room() == 0
    assert not calls.allows(99.0)
    clock.now += 0.2
    assert not calls.allows(100.1), "asks of one turn may overtake the settlement"
    calls.settled("call 1")
    assert calls.room() == 0, "the other is on its way"
    calls.settled("call 2")
    assert calls.room() == FIRST
    assert woken
    assert not calls.allows(100.1)
    assert calls.allows(100.3), "the pause may have been taken back meanwhile"
    clock.now += 1.9
    assert calls.allows(99.0), "a shorter wait makes a longer one no shorter, and now that is over"


def test_a_429_without_a_time_pauses_for_a_second(calls: BucketCalls, clock: Clock) -> None:
    calls.throttled(None, "call")
    clock.now += DEFAULT_PAUSE - 0.01
    assert (calls.allows(99.0), calls.room()) == (False, 0)
    clock.now += 0.02
    assert (calls.allows(99.0), calls.room()) == (True, FIRST), "though its settlement was never heard of"


def test_a_later_cleared_call_clears_earlier_ones(calls: BucketCalls) -> None:
    assert calls.cleared_at(99.0) == 99.0
    calls.cleared(99.5)
    calls.cleared(99.2)
    assert calls.cleared_at(99.0) == 99.5
    assert calls.cleared_at(99.7) == 99.7


def test_a_held_back_request_is_not_written_and_frees_its_connection() -> None:
    asked: list[str] = []

    async def use(provider: Provider) -> None:
        async def held(name: str, answer: bool) -> bool:
            async def may_send() -> bool:
                asked.append(name)
                await asyncio.sleep(0)
                return answer

            try:
                await provider.call(CHAT, chat(name), model="small", key=KEY, may_send=may_send)
            except NotSent:
                return True
            return False

        # Side by side: each asks for itself.
        several = [held(f"{number}", number % 2 == 0) for number in range(6)]
        assert await asyncio.gather(*several) == [False, True] * 3
        assert await held("next", True) is False

        async def breaks() -> bool:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await provider.call(CHAT, chat("broken off"), model="small", key=KEY, may_send=breaks)
        connector: Any = provider._http._session.connector  # type: ignore[attr-defined]
        assert not connector._acquired

    with Simulator() as simulator:
        with_provider(simulator.base_url, use)
        assert sorted(asked) == ["0", "1", "2", "3", "4", "5", "next"]
        assert len(simulator.journal()) == 4
