"""A provider simulator for the tests of this folder, and calls to it through the real client."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from tests.simulator import Simulator
from tests.support.batch_apis import Connect, connected
from workers.providers import Answer, Provider
from workers.providers import connect as connect_provider
from workers.providers.batch_api import BatchApi
from workers.providers.bodies import CHAT
from workers.providers.errors import ProviderError
from workers.providers.failures import classify
from workers.providers.headers import RateLimits

T = TypeVar("T")
KEY = "sk-test-aBcDeFgHiJkLmNoPqRsTuVwXyZ"


@pytest.fixture(scope="module")
def one_simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(one_simulator: Simulator) -> Iterator[Simulator]:
    """One process for a file of tests, as new for each."""
    yield one_simulator
    one_simulator.configure(
        models={"*": {}},
        keys=[],
        latency=0.0,
        answer_tokens=8,
        cached_tokens=0,
        headers=True,
        retry_after="seconds",
        failures=[],
        call_tools=False,
        batch_delay=0.5,
        batch_faults=[],
        batch_enqueued_tokens=0,
    )
    one_simulator.clear()


@pytest.fixture
def connect(simulator: Simulator) -> Iterator[Connect]:
    """Connects to a Batch API of the simulator, until the test ends."""
    made: list[BatchApi] = []

    def connect(name: str, timeout: float = 10.0) -> BatchApi:
        made.append(connected(name, simulator, timeout))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def with_provider(
    base_url: str,
    use: Callable[[Provider], Awaitable[T]],
    *,
    api: str = "openai",
    timeout: float = 10.0,
    **more: Any,
) -> T:
    """Run `use` with a provider on an event loop of its own, and close it."""

    async def run() -> T:
        provider = connect_provider("acme", api, base_url, timeout, **more)
        try:
            return await use(provider)
        finally:
            await provider.close()

    return asyncio.run(run())


def chat(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 50, **fields}


def call(
    base_url: str,
    body: dict[str, Any] | None = None,
    *,
    url: str = CHAT,
    key: str = KEY,
    model: str = "small",
    **more: Any,
) -> Answer:
    """One call, from connecting to closing."""
    return with_provider(base_url, lambda provider: provider.call(url, body or chat(), model=model, key=key), **more)


def judge(
    status: int, body: Any = None, headers: dict[str, str] | None = None, limits: RateLimits | None = None
) -> ProviderError:
    """The error that an answer is."""
    return classify(status, headers or {}, body, provider="acme", key="sk-test", now=1_795_500_000.0, limits=limits)


def error(message: str, code: str | None = None, kind: str = "invalid_request_error", **more: Any) -> dict[str, Any]:
    """An error body as OpenAI writes it."""
    return {"error": {"message": message, "type": kind, "code": code, **more}}
