"""Other people's SDKs and frameworks inside an agent, unchanged: limits, money and journal included."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Simulator
from tests.support.agents import line
from tests.support.delivery import Desk
from tests.support.site import KEY
from tests.support.toml import PRICES, provider

pytestmark = pytest.mark.long

LONG = {"mode": "429", "retry_after": "60", "times": 1}


TIMEOUT = "timeout = 0.25"


@pytest.fixture
def desk(tmp_path: Path, valkey: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("ACME_KEY", KEY)
    simulator.configure(failures=[], call_tools=False)
    simulator.clear()
    acme = provider(simulator.base_url, more=TIMEOUT, models={"small": PRICES})
    clio = provider(simulator.base_url, "clio", api="anthropic", more=TIMEOUT, models={"claude": PRICES})
    with Desk(tmp_path, valkey, f'agents = ["tests.support.sdk_agents"]\n{acme}{clio}') as made:
        yield made


def with_a_wait(desk: Desk, name: str, **body: Any) -> dict[str, Any]:
    """The agent's result, though its job had to wait in the middle."""

    async def both() -> dict[str, Any]:
        job = desk.job(line(name, 1, **body))
        first = await desk.deliver_job(job)
        assert first.snooze is not None, first.line
        await desk.end_pause()
        await desk.end_pause("clio/0/claude")
        second = await desk.deliver_job(job, first.state)
        assert second.answered, second.line
        assert second.line is not None
        answer: dict[str, Any] = second.line["response"]["body"]
        return answer

    return desk.wait(both())


def paid(simulator: Simulator) -> list[str]:
    return [entry["path"] for entry in simulator.journal() if entry["status"] == 200]


@pytest.mark.parametrize("httpx", [False, True])
def test_the_openai_sdk_on_either_http_client(desk: Desk, simulator: Simulator, httpx: bool) -> None:
    simulator.configure(failures=[{**LONG, "job": "/embed"}])
    answer = with_a_wait(desk, "openai_sdk", httpx=httpx)
    for text in (answer["chat"], answer["stream"], answer["response"], answer["response_stream"]):
        assert text.startswith("answer ")
        assert text.count("word") == 6
    assert answer["vectors"] == 2
    assert paid(simulator) == [
        *("/v1/chat/completions", "/v1/chat/completions", "/v1/responses", "/v1/responses"),
        "/v1/embeddings",
    ]


def test_a_stream_without_usage_is_paid_for_and_shows_none(desk: Desk, simulator: Simulator) -> None:
    async def test() -> None:
        job = desk.job(line("plain_chunks", 2))
        result = (await desk.deliver_job(job)).line
        assert result is not None
        assert result["response"]["body"]["text"].startswith("answer ")
        record = await desk.journal(job)
        assert record.entries["0"].output_tokens == 8
        assert record.cost == simulator.journal()[0]["cost_nusd"] > 0

    desk.wait(test())


@pytest.mark.parametrize("mode", ["half", "sse_error", "disconnect"])
def test_a_stream_that_breaks_off_is_tried_again(desk: Desk, simulator: Simulator, mode: str) -> None:
    simulator.configure(failures=[{"mode": mode, "times": 1}])
    result = desk.deliver(line("plain_chunks", 3)).line
    assert result is not None
    assert result["response"]["body"]["text"].startswith("answer ")
    assert len(simulator.journal()) == 2


def test_failures_are_the_sdks_own_and_it_does_not_retry(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "400", "job": "/bad"}])
    result = desk.deliver(line("refused", 4)).line
    assert result is not None
    told = result["response"]["body"]
    assert told["bad"] == ["BadRequestError", 400]
    assert told["none"] == ["BadRequestError", 400]
    assert "llm.step()" in told["models"][0]
    assert len(simulator.journal()) == 1


def test_the_anthropic_sdk(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "after": 1}])
    answer = with_a_wait(desk, "anthropic_sdk")
    assert answer["whole"] == answer["stream"] != ""
    assert answer["usage"] == 8
    assert paid(simulator) == ["/v1/messages"] * 2


@pytest.mark.parametrize("stream", [False, True])
def test_pydantic_ai_with_a_tool(desk: Desk, simulator: Simulator, stream: bool) -> None:
    simulator.configure(call_tools=True, failures=[{**LONG, "after": 1}])
    answer = with_a_wait(desk, "pydantic_ai", stream=stream)
    assert answer["output"].startswith("answer ")
    assert answer["requests"] == 2
    assert paid(simulator) == ["/v1/chat/completions"] * 2
