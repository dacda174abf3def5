"""Other people's SDKs and frameworks inside an agent, unchanged: limits, money and journal included."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.deliveries import Queue, deliveries
from tests.integration.test_agents import line
from tests.simulator import Simulator
from tests.site import Site
from workers.request import Snooze

LONG = {"mode": "429", "retry_after": "60", "times": 1}

TABLES = """
[providers.clio]
api = "anthropic"
base_url = "{url}"
api_key = "env:ACME_KEY"
[providers.clio.models.claude]
"""


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as made:
        yield made


@pytest.fixture(scope="module")
def site(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    tables = TABLES.format(url=simulator.base_url)
    price = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"
    with Site(folder, simulator, more='agents = ["tests.sdk_agents"]', model=price, tables=tables) as made:
        yield made


@pytest.fixture
def run(site: Site, simulator: Simulator) -> Callable[[Callable[[Queue], Awaitable[Any]]], Any]:
    simulator.clear()
    simulator.configure(failures=[], call_tools=False)

    def within(test: Callable[[Queue], Awaitable[Any]]) -> Any:
        async def whole() -> Any:
            async with deliveries(site) as queue:
                return await test(queue)

        return asyncio.run(whole())

    return within


async def with_a_wait(queue: Queue, name: str, **body: Any) -> dict[str, Any]:
    """The agent's result, though its job had to wait in the middle."""
    job = queue.job(line(name, 1, **body))
    with pytest.raises(Snooze):
        await queue.deliver(job)
    for model in ("acme/0/small", "clio/0/claude"):
        await queue.runtime.client.delete(queue.runtime.keys.bucket(model))
    result = await queue.deliver(job)
    assert result["error"] is None
    answer: dict[str, Any] = result["response"]["body"]
    return answer


def paid(simulator: Simulator) -> list[str]:
    return [entry["path"] for entry in simulator.journal() if entry["status"] == 200]


@pytest.mark.parametrize("httpx", [False, True])
def test_the_openai_sdk_on_either_http_client(run: Any, simulator: Simulator, httpx: bool) -> None:
    simulator.configure(failures=[{**LONG, "job": "/embed"}])
    answer = run(lambda queue: with_a_wait(queue, "openai_sdk", httpx=httpx))
    for text in (answer["chat"], answer["stream"], answer["response"], answer["response_stream"]):
        assert text.startswith("answer ")
        assert text.count("word") == 6
    assert answer["vectors"] == 2
    assert paid(simulator) == [
        *("/v1/chat/completions", "/v1/chat/completions", "/v1/responses", "/v1/responses"),
        "/v1/embeddings",
    ]


def test_a_stream_without_usage_is_paid_for_and_shows_none(run: Any, simulator: Simulator) -> None:
    async def test(queue: Queue) -> None:
        job = queue.job(line("plain_chunks", 2))
        result = await queue.deliver(job)
        assert result["response"]["body"]["text"].startswith("answer ")
        record = await queue.journal(job)
        assert record.entries["0"].output_tokens == 8
        assert record.cost == simulator.journal()[0]["cost_nusd"] > 0

    run(test)


@pytest.mark.parametrize("mode", ["half", "sse_error", "disconnect"])
def test_a_stream_that_breaks_off_is_tried_again(run: Any, simulator: Simulator, mode: str) -> None:
    simulator.configure(failures=[{"mode": mode, "times": 1}])

    async def test(queue: Queue) -> None:
        result = await queue.deliver(queue.job(line("plain_chunks", 3)))
        assert result["response"]["body"]["text"].startswith("answer ")

    run(test)
    assert len(simulator.journal()) == 2


def test_failures_are_the_sdks_own_and_it_does_not_retry(run: Any, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "400", "job": "/bad"}])

    async def test(queue: Queue) -> Any:
        return await queue.deliver(queue.job(line("refused", 4)))

    told = run(test)["response"]["body"]
    assert told["bad"] == ["BadRequestError", 400]
    assert told["none"] == ["BadRequestError", 400]
    assert "llm.step()" in told["models"][0]
    assert len(simulator.journal()) == 1


def test_the_anthropic_sdk(run: Any, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "after": 1}])
    answer = run(lambda queue: with_a_wait(queue, "anthropic_sdk"))
    assert answer["whole"] == answer["stream"] != ""
    assert answer["usage"] == 8
    assert paid(simulator) == ["/v1/messages"] * 2


@pytest.mark.parametrize("stream", [False, True])
def test_pydantic_ai_with_a_tool(run: Any, simulator: Simulator, stream: bool) -> None:
    simulator.configure(call_tools=True, failures=[{**LONG, "after": 1}])
    answer = run(lambda queue: with_a_wait(queue, "pydantic_ai", stream=stream))
    assert answer["output"].startswith("answer ")
    assert answer["requests"] == 2
    assert paid(simulator) == ["/v1/chat/completions"] * 2
