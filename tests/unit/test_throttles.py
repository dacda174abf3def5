"""Throttles: a 429 of this worker holds back its requests that are not written yet."""

import asyncio
from typing import Any

import pytest

from tasks.jobs.throttles import DEFAULT_PAUSE, Throttles
from tests.simulator import Simulator
from tests.unit.providers.conftest import KEY, chat, with_provider
from workers.providers import Provider
from workers.providers.bodies import CHAT
from workers.providers.errors import NotSent


def test_only_the_throttled_bucket_is_paused() -> None:
    now = [100.0]
    throttles = Throttles(lambda: now[0])
    assert throttles.allows("a", 99.0)
    throttles.pause("a", 2.0, "call 1")
    throttles.pause("a", 0.5, "call 2")
    assert not throttles.allows("a", 99.0), "a shorter wait makes a longer one no shorter"
    assert throttles.allows("b", 99.0)
    now[0] += 1.99
    assert not throttles.allows("a", 99.0)
    now[0] += 0.02
    assert throttles.allows("a", 99.0)
    assert not throttles._pauses, "nothing is kept of what is over"
    throttles.pause("a", None, "call 3")
    now[0] += DEFAULT_PAUSE - 0.01
    assert not throttles.allows("a", 99.0)
    now[0] += 0.02
    assert throttles.allows("a", 99.0)


def test_calls_that_ask_after_settlement_are_the_admissions() -> None:
    now = [100.0]
    throttles = Throttles(lambda: now[0])
    throttles.pause("a", 2.0, "call 1")
    now[0] += 0.2
    assert not throttles.allows("a", 100.1), "asks of one turn may overtake the settlement"
    throttles.settled("call 1")
    throttles.settled("call 1")
    throttles.settled("some other")
    assert not throttles.allows("a", 100.1)
    assert throttles.allows("a", 100.3), "the pause may have been taken back meanwhile"
    now[0] += 0.5
    throttles.pause("a", 1.0, "call 2")
    assert not throttles.allows("a", 100.3), "a further 429 came after it"
    now[0] += 2.0
    assert throttles.allows("a", 100.3)
    throttles.settled("call 2")
    assert throttles.allows("a", 100.3)
    assert not throttles._calls, "nothing is kept of what is over"


def test_a_later_cleared_call_clears_earlier_ones() -> None:
    throttles = Throttles(lambda: 100.0)
    assert throttles.cleared_at("a", 99.0) == 99.0
    throttles.cleared("a", 99.5)
    throttles.cleared("a", 99.2)
    assert throttles.cleared_at("a", 99.0) == 99.5
    assert throttles.cleared_at("a", 99.7) == 99.7
    assert throttles.cleared_at("b", 99.0) == 99.0


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
