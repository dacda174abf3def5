"""Each wire format against the simulator: what goes out, and what comes back."""

from typing import Any

import pytest

from limits.counting import Usage
from tests.simulator import Simulator, expected_text
from tests.unit.providers.conftest import KEY, call, chat, with_provider
from workers.providers import AccountBlocked, CallFailed, ProviderError, Refused, connect
from workers.providers.anthropic import Anthropic
from workers.providers.bodies import CHAT, EMBEDDINGS, MESSAGES, RESPONSES
from workers.providers.headers import Level
from workers.providers.openai import usage_of


def only_entry(simulator: Simulator) -> dict[str, Any]:
    (entry,) = simulator.journal()
    return entry


def test_openai_chat(simulator: Simulator) -> None:
    simulator.configure(models={"*": {"rpm": 600, "tpm": 100_000}}, cached_tokens=4)
    body = chat("Hello", model="an alias", unknown_field={"kept": True})
    answer = call(simulator.base_url, body, model="gpt-4o-mini")
    entry = only_entry(simulator)
    assert entry["path"] == "/v1/chat/completions"
    assert entry["headers"]["authorization"] == f"Bearer {KEY}"
    assert entry["headers"]["content-type"] == "application/json"
    assert entry["body"] == {**body, "model": "gpt-4o-mini"}
    assert body["model"] == "an alias"
    assert answer.status == 200
    assert answer.body["choices"][0]["message"]["content"] == expected_text(body)
    assert answer.usage == Usage(input=entry["input_tokens"], cached=4, output=8)
    assert answer.limits.rpm is not None
    assert (answer.limits.rpm.limit, answer.limits.rpm.remaining) == (600, 599)
    assert answer.limits.tpm is not None
    assert answer.limits.tpm.remaining == 100_000 - 50
    assert answer.request_id is not None
    assert 0 < answer.seconds < 5


def test_openai_responses(simulator: Simulator) -> None:
    body = {"input": "Hello", "max_output_tokens": 5}
    answer = call(simulator.base_url, body, url=RESPONSES)
    entry = only_entry(simulator)
    assert entry["path"] == "/v1/responses"
    assert answer.body["output"][0]["content"][0]["text"] == expected_text(body)
    assert answer.usage == Usage(input=entry["input_tokens"], output=5)


def test_openai_embeddings(simulator: Simulator) -> None:
    answer = call(simulator.base_url, {"input": ["a", "b"]}, url=EMBEDDINGS)
    entry = only_entry(simulator)
    assert entry["path"] == "/v1/embeddings"
    assert len(answer.body["data"]) == 2
    assert answer.usage == Usage(input=entry["input_tokens"])


def test_a_server_without_a_key_gets_no_authorization(simulator: Simulator) -> None:
    call(simulator.base_url, key="")
    assert "authorization" not in only_entry(simulator)["headers"]


def test_anthropic(simulator: Simulator) -> None:
    simulator.configure(models={"*": {"rpm": 60, "itpm": 10_000, "otpm": 5_000}}, cached_tokens=3)
    body = chat("Hello", system="Be kind")
    answer = call(simulator.base_url, body, url=MESSAGES, api="anthropic", model="claude")
    entry = only_entry(simulator)
    assert entry["path"] == "/v1/messages"
    assert entry["headers"]["x-api-key"] == KEY
    assert entry["headers"]["anthropic-version"] == "2023-06-01"
    assert "authorization" not in entry["headers"]
    assert answer.body["content"][0]["text"] == expected_text(body)
    assert answer.usage == Usage(input=entry["input_tokens"], cached=3, output=8)
    assert {dimension for dimension, _ in answer.limits.items()} == {"rpm", "itpm", "otpm"}
    assert answer.request_id is not None


def test_anthropic_counts_what_went_into_the_cache_as_input() -> None:
    body = {
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 200,
            "cache_creation_input_tokens": 100,
            "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60},
            "output_tokens": 7,
        }
    }
    usage = Anthropic("a", "https://x", 1.0)._usage(MESSAGES, body)
    assert usage == Usage(input=310, cached=200, cache_write=100, output=7, cache_write_1h=60)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (CHAT, "/openai/deployments/my%20gpt/chat/completions"),
        (EMBEDDINGS, "/openai/deployments/my%20gpt/embeddings"),
        (RESPONSES, "/openai/responses"),
    ],
)
@pytest.mark.parametrize("ending", ["", "/", "/openai", "/openai/v1/"])
def test_azure_with_a_version_names_the_deployment(simulator: Simulator, url: str, path: str, ending: str) -> None:
    body = chat() if url == CHAT else {"input": "Hello"}
    answer = call(simulator.base_url + ending, body, url=url, api="azure", model="my gpt", api_version="2024-10-21")
    entry = only_entry(simulator)
    assert entry["path"] == path.replace("%20", " ")
    assert entry["model"] == "my gpt"
    assert entry["headers"]["api-key"] == KEY
    assert "authorization" not in entry["headers"]
    assert answer.usage is not None


@pytest.mark.parametrize("ending", ["", "/openai/v1"])
def test_azure_without_a_version_names_it_in_the_body(simulator: Simulator, ending: str) -> None:
    call(simulator.base_url + ending, api="azure", model="my-gpt")
    entry = only_entry(simulator)
    assert entry["path"] == "/openai/v1/chat/completions"
    assert entry["body"]["model"] == "my-gpt"
    assert entry["headers"]["api-key"] == KEY


@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        ("https://api.openai.com", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
        ("http://127.0.0.1:8000/proxy", "http://127.0.0.1:8000/proxy/v1/chat/completions"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/chat/completions"),
        (
            "https://x.googleapis.com/v1beta/openai/",
            "https://x.googleapis.com/v1beta/openai/chat/completions",
        ),
        (
            "https://gateway.ai/v1/account/gw/openai",
            "https://gateway.ai/v1/account/gw/openai/chat/completions",
        ),
    ],
)
def test_a_base_url_may_hold_its_version_or_not(base_url: str, address: str) -> None:
    provider = connect("acme", "openai", base_url, 1.0)
    assert provider._address(CHAT, "m") == address  # type: ignore[attr-defined]  # inside, on purpose


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("acme", "openai", "api.openai.com", 1.0), "must begin with https://"),
        (("acme", "openai", "ftp://x", 1.0), "must begin with https://"),
        (("acme", "openai", "http://", 1.0), "name a host"),
        (("acme", "openai", "http://x:99999999", 1.0), "not an address"),
        (("acme", "openai", "https://user:secret@x", 1.0), "a password"),
        (("acme", "openai", "https://x?key=secret", 1.0), "a password, query"),
        (("acme", "gemini", "https://x", 1.0), "must be one of openai, azure, anthropic"),
        (("acme", "openai", "https://x", 0.0), "above 0"),
        (("acme", "openai", "https://x", float("inf")), "above 0"),
    ],
)
def test_a_wrong_configuration_is_reported(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        connect(*arguments)
    assert "secret" not in str(raised.value)


def test_an_endpoint_that_the_format_does_not_have_is_refused(simulator: Simulator) -> None:
    with pytest.raises(Refused, match="unknown_url"):
        call(simulator.base_url, api="anthropic", url=CHAT)
    assert simulator.journal() == []


@pytest.mark.parametrize("text", ["\ud800", 10**30])
def test_a_body_that_is_no_json_is_refused(simulator: Simulator, text: Any) -> None:
    with pytest.raises(Refused, match="bad_body"):
        call(simulator.base_url, chat(extra=text))


@pytest.mark.parametrize("key", ["sk-with\nnewline", "sk-ümlaut-secret", "sk with space"])
def test_a_key_that_is_none_is_told_and_never_shown(simulator: Simulator, key: str) -> None:
    with pytest.raises(AccountBlocked) as raised:
        call(simulator.base_url, key=key)
    assert "set the key" in raised.value.advice
    assert key not in f"{raised.value!r} {raised.value.message} {raised.value.advice}"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ([], None),
        ({}, None),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({"prompt_tokens": -5, "completion_tokens": "7"}, None),
        ({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}, Usage(input=5, output=7)),
        # Thoughts that are in the total alone.
        ({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 50}, Usage(input=5, output=45)),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 99}},
            Usage(input=5, cached=5, output=1),
        ),
        ({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": []}, Usage(input=5, output=1)),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4},
            Usage(input=9, cached=4, output=1),
        ),
    ],
)
def test_usage_of_a_chat(usage: Any, expected: Usage | None) -> None:
    assert usage_of(CHAT, {"usage": usage}) == expected


@pytest.mark.parametrize("api", ["openai", "azure", "anthropic"])
def test_ping_reaches_the_list_of_models(simulator: Simulator, api: str) -> None:
    simulator.configure(models={"a": {}, "b": {}})
    words = with_provider(simulator.base_url, lambda provider: provider.ping(KEY), api=api)
    assert "2 models listed" in words


def test_ping_tells_what_is_wrong(simulator: Simulator) -> None:
    simulator.configure(keys=["another"])
    with pytest.raises(AccountBlocked):
        with_provider(simulator.base_url, lambda provider: provider.ping(KEY))
    with pytest.raises(CallFailed) as raised:
        with_provider("http://127.0.0.1:1", lambda provider: provider.ping(KEY))
    assert isinstance(raised.value, ProviderError)
    assert not raised.value.billed


def test_groq_is_known_by_its_name_or_its_address() -> None:
    for provider in (
        connect("g", "openai", "https://api.groq.com/openai/v1", 1.0),
        connect("g", "openai", "https://proxy.example/v1", 1.0, counting="groq"),
    ):
        assert provider._requests_are_daily  # type: ignore[attr-defined]  # inside, on purpose
    assert not connect("o", "openai", "https://api.openai.com", 1.0)._requests_are_daily  # type: ignore[attr-defined]  # as above


def test_groqs_requests_are_a_day(simulator: Simulator) -> None:
    simulator.configure(models={"*": {"rpm": 600}})
    answer = call(simulator.base_url, counting="groq")
    assert answer.limits.rpm is None
    assert answer.limits.rpd == Level(600, 599, 0.1)
