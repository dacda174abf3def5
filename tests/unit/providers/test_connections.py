"""The client's connections, and what its errors must not show."""

import asyncio
import gc
import io
import logging
import time
import traceback

import pytest

from tests.simulator import Simulator
from tests.unit.providers.conftest import KEY, call, chat, with_provider
from workers.providers import (
    Provider,
    ProviderError,
    connect,
)
from workers.providers.bodies import CHAT

PROMPT = "the-private-prompt"


@pytest.mark.parametrize(
    "mode",
    ["400", "401", "429", "500", "echo_key", "reset", "half", "hang", "garbage", "redirect", "huge_told"],
)
def test_no_key_and_no_prompt_in_any_error_or_log(
    simulator: Simulator, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    simulator.configure(failures=[{"mode": mode}])
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ProviderError) as raised:
        call(simulator.base_url, chat(PROMPT), timeout=0.5 if mode == "hang" else 10.0)
    error = raised.value
    printed = io.StringIO()
    traceback.print_exception(error, file=printed)
    shown = [
        printed.getvalue(),
        str(error),
        repr(error),
        repr(error.args),
        error.message,
        error.advice,
        caplog.text,
    ]
    # Nothing hangs on to the request either: httpx's errors would.
    assert error.__cause__ is None
    assert error.__context__ is None
    for text in shown:
        assert KEY not in text
        assert KEY[:12] not in text
        assert PROMPT not in text


def test_an_answers_repr_hides_its_content(simulator: Simulator) -> None:
    answer = call(simulator.base_url, chat(PROMPT))
    assert "answer " in answer.body["choices"][0]["message"]["content"]
    assert "answer " not in repr(answer)
    assert "word" not in repr(answer)


def test_a_thousand_calls_are_really_in_flight(simulator: Simulator) -> None:
    """Without a session of our own, the transport would stop at a hundred."""
    simulator.configure(latency=1.0)

    async def use(provider: Provider) -> float:
        started = time.monotonic()
        calls = [provider.call(CHAT, chat(f"job {n}"), model="m", key=KEY) for n in range(1000)]
        answers = await asyncio.gather(*calls)
        assert all(answer.status == 200 for answer in answers)
        return time.monotonic() - started

    assert with_provider(simulator.base_url, use, timeout=60.0) < 8
    stats = simulator.stats()
    assert stats["peak_in_flight"] == 1000
    assert stats["jobs_answered"] == 1000


def test_connections_are_used_again(simulator: Simulator) -> None:
    async def use(provider: Provider) -> None:
        for n in range(20):
            await provider.call(CHAT, chat(f"job {n}"), model="m", key=KEY)
        assert simulator.stats()["connections"] <= 3

    with_provider(simulator.base_url, use)


def test_a_provider_belongs_to_one_running_loop(simulator: Simulator) -> None:
    provider = connect("acme", "openai", simulator.base_url, 5.0)

    async def once() -> int:
        answer = await provider.call(CHAT, chat(), model="m", key=KEY)
        await provider.close()
        return answer.status

    assert asyncio.run(once()) == 200
    assert asyncio.run(once()) == 200

    async def two_loops() -> None:
        await provider.call(CHAT, chat(), model="m", key=KEY)
        with pytest.raises(RuntimeError, match="event loop of its first call"):
            await asyncio.to_thread(asyncio.run, once())
        await provider.close()

    asyncio.run(two_loops())
    gc.collect()
