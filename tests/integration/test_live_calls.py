"""Live calls through the HTTP server with OpenAI's and Anthropic's SDKs: answers, streams, and every error class."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from tests.simulator import Simulator
from tests.simulator.answers import expected_text
from tests.support.api import CLIENTS, KEYS, ONE, TWO, Api, api_fixture
from tests.support.site import KEY, Site, wait_for
from tests.support.toml import PRICES, provider

CHAT: dict[str, Any] = {"model": "acme/small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}


def toml(simulator: Simulator) -> str:
    models = {"small": PRICES, "slow": f"{PRICES}concurrency = 1", "tight": f"{PRICES}rpm = 1", "paused": PRICES}
    return (
        provider(simulator.base_url, models=models)
        + provider(simulator.base_url, "claude", api="anthropic", models={"haiku": PRICES})
        + provider(simulator.base_url, "other", models={"small": PRICES})
        + provider(simulator.base_url, "third", models={"locked": PRICES})
        + "[models.routed]\ntargets = ["
        + '{provider = "acme", model = "broken", weight = 1000}, {provider = "other", model = "small"}]\n'
        + CLIENTS.replace("[workflows.adhoc]", "[workflows.adhoc]\nbudget_usd = 0.000001")
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("live"), toml=toml(simulator), environment={**KEYS, "ACME_KEY": KEY}) as made:
        yield made


api = api_fixture()


@pytest.fixture(autouse=True)
def _as_new(simulator: Simulator) -> Iterator[None]:
    simulator.configure(failures=[], latency=0.0)
    simulator.clear()
    yield
    simulator.configure(failures=[], latency=0.0)


@pytest.fixture(scope="module")
def one(api: Api) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK with the key of the first client."""
    with api.sdk() as client:
        yield client


@pytest.fixture(scope="module")
def claude(api: Api) -> Iterator[anthropic.Anthropic]:
    """Anthropic's SDK, likewise."""
    http = httpx2.Client(trust_env=False)
    base = api.url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base, api_key=ONE, http_client=http, max_retries=0) as client:
        yield client


def test_a_chat_completion(one: openai.OpenAI) -> None:
    raw = one.chat.completions.with_raw_response.create(**CHAT)
    answer = raw.parse()
    assert answer.choices[0].message.content == expected_text(CHAT)
    assert raw.headers["x-overnight-target"] == "acme/small"
    assert raw.headers["x-overnight-lane"] == "live"
    assert answer.usage is not None
    cost = (answer.usage.prompt_tokens + 2 * answer.usage.completion_tokens) / 1_000_000
    assert float(raw.headers["x-overnight-cost-usd"]) == pytest.approx(cost, abs=1e-12)


def test_a_streamed_chat_completion(one: openai.OpenAI) -> None:
    chunks = list(one.chat.completions.create(stream=True, **CHAT))
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == expected_text(CHAT)
    assert all(each.choices for each in chunks)
    wanted = list(one.chat.completions.create(stream=True, stream_options={"include_usage": True}, **CHAT))
    assert wanted[-1].usage is not None
    assert wanted[-1].usage.completion_tokens == 8


def test_a_response_and_its_stream(one: openai.OpenAI) -> None:
    body: dict[str, Any] = {"model": "small", "input": "hello"}
    body["model"] = "acme/small"
    assert one.responses.create(**body).output_text == expected_text(body)
    events = list(one.responses.create(stream=True, **body))
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == expected_text(body)


def test_embeddings(one: openai.OpenAI) -> None:
    found = one.embeddings.create(model="acme/small", input=["one", "two"])
    assert [each.index for each in found.data] == [0, 1]
    assert len(found.data[0].embedding) > 1


def test_messages_and_their_stream(claude: anthropic.Anthropic) -> None:
    body: dict[str, Any] = {"model": "haiku", "messages": CHAT["messages"], "max_tokens": 50}
    assert claude.messages.create(**body).content[0].text == expected_text(body)  # type: ignore[union-attr]
    with claude.messages.stream(**body) as stream:
        assert "".join(stream.text_stream) == expected_text(body)
        assert stream.get_final_message().usage.output_tokens == 8


def test_models_are_listed_and_found(one: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    names = [each.id for each in one.models.list()]
    assert {"routed", "acme/small", "haiku", "claude/haiku"} <= set(names)
    assert "small" not in names  # two providers list it
    assert one.models.retrieve("acme/small").owned_by == "acme"
    with pytest.raises(openai.NotFoundError):
        one.models.retrieve("nothing")
    assert "haiku" in [each.id for each in claude.models.list()]


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        ({"model": "nothing"}, openai.NotFoundError, "model_not_found"),
        ({"model": "haiku"}, openai.NotFoundError, "model_not_found"),
        ({"model": ""}, openai.BadRequestError, None),
        ({"messages": []}, openai.BadRequestError, None),
        ({"messages": "hello"}, openai.BadRequestError, None),
        ({"max_tokens": -1}, openai.BadRequestError, None),
        ({"metadata": {"workflow": "secret"}}, openai.NotFoundError, "unknown_workflow"),
        ({"metadata": {"workflow": 7}}, openai.BadRequestError, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_input_gets_openais_error(
    one: openai.OpenAI, change: Any, kind: type, code: str | None, stream: bool
) -> None:
    with pytest.raises(kind) as found:
        one.chat.completions.create(**{**CHAT, **change}, stream=stream)
    assert found.value.code == code
    assert found.value.request_id


def test_a_wrong_key_is_refused(one: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    with pytest.raises(openai.AuthenticationError):
        one.with_options(api_key="sk-wrong").chat.completions.create(**CHAT)
    with pytest.raises(anthropic.AuthenticationError) as found:
        claude.with_options(api_key="sk-wrong").messages.create(model="haiku", messages=CHAT["messages"], max_tokens=5)
    assert found.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]


def test_anthropics_sdk_gets_anthropics_errors(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as found:
        claude.messages.create(model="nothing", messages=CHAT["messages"], max_tokens=5)
    assert found.value.body["error"]["type"] == "not_found_error"  # type: ignore[index,call-overload]


def test_a_spent_budget_is_402(one: openai.OpenAI, simulator: Simulator) -> None:
    """The second client's workflow has a budget below the price of a call."""
    with pytest.raises(openai.APIStatusError) as found:
        one.with_options(api_key=TWO).chat.completions.create(**CHAT)
    assert (found.value.status_code, found.value.code, found.value.type) == (
        402,
        "insufficient_quota",
        "insufficient_quota",
    )
    assert not simulator.journal()


def test_a_workflow_is_chosen_and_its_name_stays_here(one: openai.OpenAI, simulator: Simulator) -> None:
    with pytest.raises(openai.APIStatusError) as found:
        one.chat.completions.create(**CHAT, metadata={"workflow": "adhoc"})
    assert found.value.status_code == 402
    one.chat.completions.create(**CHAT, metadata={"workflow": "nightly", "job": "mine"})
    assert [entry["job"] for entry in simulator.journal()] == ["mine"]


def test_a_full_quota_is_429_with_the_time_to_come_back(one: openai.OpenAI) -> None:
    body = {**CHAT, "model": "acme/tight"}
    hurried = {"extra_headers": {"X-Overnight-Max-Wait": "0"}}
    one.chat.completions.create(**body, **hurried)
    began = time.monotonic()
    with pytest.raises(openai.RateLimitError) as found:
        one.chat.completions.create(**body, **hurried)
    assert time.monotonic() - began < 5.0
    assert found.value.code == "rate_limit_exceeded"
    assert 1 <= int(found.value.response.headers["retry-after"]) <= 62, "a minute, at 97 % of the limit"


def test_a_max_wait_that_is_none_is_refused(one: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        one.chat.completions.create(**CHAT, extra_headers={"X-Overnight-Max-Wait": "soon"})


def test_a_call_waits_as_long_as_its_client(one: openai.OpenAI, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "429", "times": 1, "retry_after": "1"}])
    answer = one.chat.completions.create(**CHAT)
    assert answer.choices[0].message.content == expected_text(CHAT)
    assert [entry["status"] for entry in simulator.journal()] == [429, 200]


def test_calls_wait_for_each_other(one: openai.OpenAI, simulator: Simulator) -> None:
    """The model takes one call at a time; the provider refuses a second one."""
    simulator.configure(latency=0.1, models={"*": {}, "slow": {"concurrency": 1}})
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: one.chat.completions.create(**{**CHAT, "model": "acme/slow"}), range(4)))
    assert len(answers) == 4
    assert [entry["status"] for entry in simulator.journal()] == [200] * 4


def test_a_client_that_hangs_up_while_it_waits_costs_nothing(
    api: Api, one: openai.OpenAI, simulator: Simulator
) -> None:
    simulator.configure(latency=0.6)
    body = {**CHAT, "model": "acme/slow"}
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(one.chat.completions.create, **body)
        wait_for(simulator.journal, what="the first call")
        with api.http() as client, pytest.raises(httpx.ReadTimeout):
            client.post("chat/completions", json=body, timeout=0.2)
        first.result()
    wait_for(lambda: re.search(r"POST /v1/chat/completions 499 ", api.log()), 10.0, what="the end of the second")
    assert len(simulator.journal()) == 1


def test_a_long_pause_is_429_until_it_ends(one: openai.OpenAI, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "429", "times": 1, "retry_after": "40"}])
    for _ in range(2):
        with pytest.raises(openai.RateLimitError) as found:
            one.chat.completions.create(**{**CHAT, "model": "acme/paused"})
        assert 30 <= int(found.value.response.headers["retry-after"]) <= 41
        assert "paused" in found.value.message
    assert len(simulator.journal()) == 1, "the second was not sent"


def test_calls_of_a_paused_workflow_are_503_until_it_is_resumed(
    site: Site, one: openai.OpenAI, simulator: Simulator
) -> None:
    site.run("pause", "--workflow", "nightly")

    def refused() -> bool:
        try:
            one.chat.completions.create(**CHAT)
        except openai.InternalServerError as error:
            told = error.status_code, error.response.headers["retry-after"], error.message
            return told[:2] == (503, "30") and "The workflow nightly is paused" in told[2]
        return False

    wait_for(refused, 5.0, what="a pause")
    sent = len(simulator.journal())
    assert refused()
    assert len(simulator.journal()) == sent
    site.run("resume", "--workflow", "nightly")
    wait_for(lambda: not refused(), 5.0, what="the end of the pause")


def test_a_refused_key_of_ours_is_not_the_clients_401(one: openai.OpenAI, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "401", "model": "locked"}])
    with pytest.raises(openai.RateLimitError) as found:
        one.chat.completions.create(**{**CHAT, "model": "third/locked"})
    assert "blocked" in found.value.message
    assert KEY not in found.value.response.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_target_is_left_for_another(one: openai.OpenAI, simulator: Simulator, stream: bool) -> None:
    simulator.configure(failures=[{"mode": "500", "model": "broken"}])
    raw = one.chat.completions.with_raw_response.create(**{**CHAT, "model": "routed"}, stream=stream)
    assert raw.headers["x-overnight-target"] == "other/small"
    assert [entry["status"] for entry in simulator.journal()] == [500, 200]


def test_a_refusal_comes_back_in_the_providers_words(one: openai.OpenAI, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "400"}])
    with pytest.raises(openai.BadRequestError) as found:
        one.chat.completions.create(**CHAT)
    assert len(simulator.journal()) == 1
    assert found.value.message


def test_a_provider_that_stays_down_is_502(one: openai.OpenAI, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "502"}])
    with pytest.raises(openai.InternalServerError) as found:
        one.chat.completions.create(**{**CHAT, "model": "other/small"}, extra_headers={"X-Overnight-Max-Wait": "0"})
    assert found.value.status_code == 502
    assert len(simulator.journal()) == 1
