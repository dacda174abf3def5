"""Every error of the HTTP server as OpenAI's and Anthropic's SDKs raise it."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from openai import OpenAI

from tests.simulator import Simulator
from tests.support.api import ONE, SCARCE, TWO, Api, api_fixture, sdk_fixture, submit, upload
from tests.support.site import KEY, Site, jobs
from tests.support.toml import PRICES, provider

CHAT: dict[str, Any] = {"model": "acme/small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}

#: The client doesn't wait for its turn.
HURRIED = {"X-Overnight-Max-Wait": "0"}

MB = 1_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Iterator[Site]:
    models = {"haiku": PRICES, "tight": f"{PRICES}rpm = 1"}
    claude = provider(simulator.base_url, "claude", api="anthropic", models=models)
    folder = tmp_path_factory.mktemp("errors")
    with Site(folder, simulator, model=PRICES, tables=SCARCE + claude, environment={"ACME_KEY": KEY}) as made:
        yield made


api = api_fixture()
sdk = sdk_fixture(scope="module")
other = sdk_fixture(name="other", key=TWO, scope="module")


@pytest.fixture(scope="module")
def claude(api: Api) -> Iterator[anthropic.Anthropic]:
    http = httpx2.Client(trust_env=False)
    base = api.url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base, api_key=ONE, http_client=http, max_retries=0) as client:
        yield client


def refused(call: Callable[[], object], kind: type[openai.APIStatusError], status: int, code: str | None) -> Any:
    """Check the error of a call; returns it."""
    with pytest.raises(kind) as found:
        call()
    assert (found.value.status_code, found.value.code) == (status, code)
    assert found.value.request_id
    assert found.value.message
    return found.value


def test_a_wrong_key_is_401(sdk: OpenAI) -> None:
    wrong = sdk.with_options(api_key="sk-wrong")
    calls: list[Callable[[], object]] = [wrong.files.list, wrong.batches.list, wrong.models.list]
    for call in (*calls, lambda: wrong.chat.completions.create(**CHAT)):
        refused(call, openai.AuthenticationError, 401, "invalid_api_key")


def test_what_is_unknown_or_anothers_is_404(sdk: OpenAI, other: OpenAI) -> None:
    file = upload(sdk, jobs(1))
    batch = submit(sdk, file).id
    refused(lambda: other.files.content(file), openai.NotFoundError, 404, None)
    refused(lambda: other.batches.cancel(batch), openai.NotFoundError, 404, None)
    refused(lambda: submit(other, file), openai.NotFoundError, 404, "file_not_found")
    model = {**CHAT, "model": "gpt-9"}
    refused(lambda: sdk.chat.completions.create(**model), openai.NotFoundError, 404, "model_not_found")
    refused(lambda: sdk.chat.completions.create(**model, stream=True), openai.NotFoundError, 404, "model_not_found")
    refused(lambda: sdk.models.retrieve("gpt-9"), openai.NotFoundError, 404, "model_not_found")


def test_a_wrong_purpose_is_400(sdk: OpenAI) -> None:
    wrong: dict[str, Any] = {"file": ("a.jsonl", b"{}\n"), "purpose": "fine-tune"}
    error = refused(lambda: sdk.files.create(**wrong), openai.BadRequestError, 400, "invalid_value")
    assert error.param == "purpose"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"endpoint": "/v1/images"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "x"}}, "metadata"),
        ({"metadata": {"k": "x" * 513}}, "metadata"),
        ({"metadata": {"k": 5}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "output_expires_after.seconds"),
        ({"output_expires_after": {"anchor": "now", "seconds": 3600}}, "output_expires_after.anchor"),
    ],
)
def test_a_wrong_field_of_create_gets_400_that_names_it(sdk: OpenAI, more: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as found:
        submit(sdk, "file-0", **more)
    assert found.value.param == param
    assert found.value.type == "invalid_request_error"


def test_what_is_too_large_is_413(sdk: OpenAI) -> None:
    refused(lambda: upload(sdk, b"x" * (MB + 1)), openai.APIStatusError, 413, "request_too_large")
    wide = {"metadata": {"key": "x" * 2 * MB}}
    refused(lambda: submit(sdk, "file-0", **wide), openai.APIStatusError, 413, "request_too_large")


@pytest.mark.long
def test_a_live_call_larger_than_any_provider_takes_is_413(sdk: OpenAI) -> None:
    large = {**CHAT, "messages": [{"role": "user", "content": "x" * 53 * MB}]}
    refused(lambda: sdk.chat.completions.create(**large), openai.APIStatusError, 413, "request_too_large")


def test_a_spent_budget_is_402(other: OpenAI) -> None:
    refused(lambda: other.chat.completions.create(**CHAT), openai.APIStatusError, 402, "insufficient_quota")
    error = refused(
        lambda: other.chat.completions.create(**CHAT, stream=True), openai.APIStatusError, 402, "insufficient_quota"
    )
    assert "adhoc" in error.message


def test_a_call_whose_turn_comes_too_late_is_429(sdk: OpenAI) -> None:
    tight = {**CHAT, "model": "acme/tight"}

    def call() -> object:
        return sdk.chat.completions.create(**tight, extra_headers=HURRIED)

    call()
    error = refused(call, openai.RateLimitError, 429, "rate_limit_exceeded")
    assert 1 <= int(error.response.headers["retry-after"]) <= 62, "a minute, at 97 % of the limit"
    assert 1 <= int(error.response.headers["retry-after-ms"]) <= 62_000


@contextmanager
def silent(site: Site) -> Iterator[None]:
    """Redis does not answer in this block."""
    os.kill(site.redis_pid(), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(site.redis_pid(), signal.SIGCONT)


@pytest.mark.long
def test_everything_is_503_while_redis_is_away(sdk: OpenAI, claude: anthropic.Anthropic, site: Site) -> None:
    file = upload(sdk, jobs(1))
    calls: list[Callable[[], object]] = [
        lambda: sdk.chat.completions.create(**CHAT, extra_headers=HURRIED),
        sdk.batches.list,
        lambda: sdk.files.content(file),
        lambda: submit(sdk, file),
        lambda: upload(sdk, jobs(1)),
    ]
    with silent(site):
        for call in calls:
            error = refused(call, openai.InternalServerError, 503, "service_unavailable")
            assert int(error.response.headers["retry-after"]) >= 1
        with pytest.raises(anthropic.InternalServerError) as found:
            claude.messages.create(**message("claude/haiku"), extra_headers=HURRIED)
        assert found.value.status_code == 503
        assert found.value.body["error"]["type"] == "overloaded_error"  # type: ignore[index,call-overload]
    assert sdk.files.content(file).content


def message(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}


@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_sdk_gets_its_own_classes(claude: anthropic.Anthropic, stream: bool) -> None:
    def said(kind: type[anthropic.APIStatusError], status: int, sdk: anthropic.Anthropic = claude, **more: Any) -> str:
        """The type in the error's body."""
        with pytest.raises(kind) as found:
            sdk.messages.create(**{**message("claude/haiku"), **more}, stream=stream)
        assert found.value.status_code == status
        assert found.value.request_id
        body: Any = found.value.body
        assert body["type"] == "error"
        assert body["error"]["message"]
        return str(body["error"]["type"])

    assert said(anthropic.AuthenticationError, 401, claude.with_options(api_key="sk-x")) == "authentication_error"
    assert said(anthropic.NotFoundError, 404, model="gpt-9") == "not_found_error"
    assert said(anthropic.BadRequestError, 400, messages=[]) == "invalid_request_error"
    assert said(anthropic.APIStatusError, 402, claude.with_options(api_key=TWO)) == "billing_error"


def test_anthropics_sdk_is_told_when_to_come_back(claude: anthropic.Anthropic) -> None:
    claude.messages.create(**message("claude/tight"), extra_headers=HURRIED)
    with pytest.raises(anthropic.RateLimitError) as found:
        claude.messages.create(**message("claude/tight"), extra_headers=HURRIED)
    assert found.value.body["error"]["type"] == "rate_limit_error"  # type: ignore[index,call-overload]
    assert int(found.value.response.headers["retry-after"]) >= 1


def test_a_stream_that_breaks_off_is_an_error_in_both_sdks(
    sdk: OpenAI, claude: anthropic.Anthropic, simulator: Simulator
) -> None:
    simulator.configure(failures=[{"mode": "half"}])
    try:
        with pytest.raises(openai.APIError) as found, sdk.chat.completions.create(**CHAT, stream=True) as stream:
            list(stream)
        assert found.value.code
        assert not isinstance(found.value, openai.APIStatusError), "it came in the stream"
        with pytest.raises(anthropic.APIStatusError) as seen:
            list(claude.messages.create(**message("claude/haiku"), stream=True))
        assert seen.value.status_code == 200
        assert seen.value.body["error"]["type"] == "api_error"  # type: ignore[index,call-overload]
    finally:
        simulator.configure(failures=[])
