"""Which prompts can use each other's cache, and which provider takes a key for it."""

from typing import Any

import pytest

from workers.providers.prompt_prefix import LEAST, prefix_of, takes_cache_key

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
RULES = "Answer in one word. " * 300
OTHER = "Answer in two words. " * 300
MARK = {"cache_control": {"type": "ephemeral"}}


def chat(system: str, text: str, **body: Any) -> dict[str, Any]:
    turns = [{"role": "system", "content": system}] if system else []
    return {"model": "m", "messages": [*turns, {"role": "user", "content": text}], **body}


def test_prompts_with_the_same_system_prompt_share_a_prefix() -> None:
    one = prefix_of(CHAT, chat(RULES, "one"))
    assert one
    assert prefix_of(CHAT, chat(RULES, "two", temperature=1)) == one
    responses = {"model": "m", "instructions": RULES, "input": "one"}
    assert prefix_of(RESPONSES, responses) == prefix_of(RESPONSES, {**responses, "input": "two"}) != ""


@pytest.mark.parametrize(
    "other",
    [
        chat(OTHER, "one"),
        chat(f"{RULES}!", "one"),
        chat(RULES, "one", tools=[{"type": "function"}]),
        chat(RULES, "one", response_format={"type": "json_object"}),
        {**chat(RULES, "one"), "model": "n"},
    ],
)
def test_prompts_that_begin_otherwise_share_none(other: dict[str, Any]) -> None:
    assert prefix_of(CHAT, other) != prefix_of(CHAT, chat(RULES, "one"))


def test_a_short_system_prompt_counts_with_the_beginning_of_the_messages() -> None:
    document = "word " * LEAST
    one = prefix_of(CHAT, chat("Summarize.", f"{document}one"))
    assert one
    assert prefix_of(CHAT, chat("Summarize.", f"{document}two")) == one
    assert prefix_of(CHAT, chat("Summarize.", f"Once, {document}one")) != one
    assert prefix_of(RESPONSES, {"model": "m", "input": document}) != ""


@pytest.mark.parametrize(
    ("url", "body"),
    [
        (CHAT, chat("Summarize.", "a short text")),
        ("/v1/embeddings", {"model": "m", "input": RULES}),
        (MESSAGES, {"model": "m", "system": RULES, "messages": [{"role": "user", "content": "one"}]}),
        (CHAT, {"model": "m"}),
    ],
    ids=["short", "embedding", "unmarked", "empty"],
)
def test_what_no_provider_caches_has_no_prefix(url: str, body: dict[str, Any]) -> None:
    assert prefix_of(url, body) == ""


@pytest.mark.parametrize(
    "marked",
    [
        {"system": [{"type": "text", "text": RULES, **MARK}]},
        {"system": RULES, "tools": [{"name": "look_up", **MARK}]},
        {"system": RULES, **MARK},
    ],
)
def test_anthropic_caches_what_is_marked(marked: dict[str, Any]) -> None:
    bodies = [{"model": "m", "messages": [{"role": "user", "content": text}], **marked} for text in ("one", "two")]
    one, two = (prefix_of(MESSAGES, body) for body in bodies)
    assert one == two != ""


def test_a_key_of_the_bodys_own_says_what_is_shared() -> None:
    one = prefix_of(CHAT, chat(RULES, "one", prompt_cache_key="k"))
    assert prefix_of(CHAT, chat(OTHER, "two", prompt_cache_key="k")) == one
    assert prefix_of(CHAT, chat(RULES, "one", prompt_cache_key="l")) != one


def test_a_body_that_is_nested_too_deeply_has_no_prefix() -> None:
    deep: dict[str, Any] = {}
    for _ in range(1_000):
        deep = {"a": deep}
    assert prefix_of(CHAT, chat(RULES, "one", tools=[deep])) == ""


@pytest.mark.parametrize(
    ("api", "url", "takes"),
    [
        ("openai", "https://api.openai.com/v1", True),
        ("openai", "https://eu.api.openai.com/v1", True),
        ("azure", "https://me.openai.azure.com", False),
        ("openai", "https://api.groq.com/openai/v1", False),
        ("openai", "https://xapi.openai.com", False),
        ("anthropic", "https://api.anthropic.com", False),
    ],
)
def test_only_openai_itself_takes_a_cache_key(api: str, url: str, takes: bool) -> None:
    assert takes_cache_key(api, url) is takes
