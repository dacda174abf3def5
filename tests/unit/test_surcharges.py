"""A request that costs more than its tokens is refused under a budget, unless its price is configured."""

from pathlib import Path
from typing import Any

import pytest

from tasks.batches.precheck import Precheck
from tasks.jobs.job import Line
from tasks.jobs.surcharges import Surcharge
from workers.config.settings import load
from workers.models.prices import flat
from workers.providers.endpoints import CHAT, MESSAGES, RESPONSES

#: The price table knows `open/known`, at the standard price.
CONFIG = """
[providers.open]
api = "openai"
api_key = "env:K"
[providers.open.models.told]
input_usd_per_mtok = 1.0
output_usd_per_mtok = 1.0
[providers.open.models.half-told]
input_usd_per_mtok = 1.0
[providers.claude]
api = "anthropic"
api_key = "env:K"
[providers.own]
api = "openai"
base_url = "http://127.0.0.1:8080/v1"
[providers.own.models.free]
input_usd_per_mtok = 0
output_usd_per_mtok = 0
[providers.groq]
api = "openai"
api_key = "env:K"
[models.mix]
targets = [{ provider = "open", model = "told" }, { provider = "open", model = "known" }]
[workflows.held]
budget_usd = 100.0
[workflows.thrifty]
budget_usd = 100.0
when_exhausted = "fallback"
fallback = "open/known"
"""
TABLE = dict.fromkeys(
    (
        *("open/known", "open/half-told", "open/gpt-9-search-preview", "open/x:online", "claude/known"),
        *("groq/groq/compound", "groq/groq/compound-mini", "groq/compound-beta", "groq/compound-beta-mini"),
        *("groq/compounding", "open/groq/compounded"),
    ),
    flat(1.0, 1.0),
)

HELLO = [{"role": "user", "content": "Hello"}]


def check(folder: Path, model: str, *, url: str = CHAT, workflow: str = "held", **body: Any) -> None:
    (folder / "overnight.toml").write_text(CONFIG)
    told = {"input": HELLO} if url == RESPONSES else {"messages": HELLO, "max_tokens": 10}
    line = Line("job", url, {"model": model, **told, **body})
    Precheck(load(folder / "overnight.toml"), workflow, lambda _: TABLE).check(line)


@pytest.mark.parametrize(
    "body",
    [
        {"service_tier": "priority"},
        {"service_tier": "ultrafast"},
        {"speed": "fast"},
        {"inference_geo": "us"},
    ],
)
def test_a_more_expensive_tier_needs_a_configured_price(tmp_path: Path, body: dict[str, str]) -> None:
    ((field, value),) = body.items()
    words = rf'open/known has no price for {field} "{value}", and a budget applies: leave it out, or write'
    with pytest.raises(Surcharge, match=words) as refused:
        check(tmp_path, "open/known", **body)
    assert refused.value.code == "no_price"
    check(tmp_path, "told", **body)
    check(tmp_path, "open/known", workflow="free", **body)
    for model in ("half-told", "mix"):
        with pytest.raises(Surcharge, match=r"open/(half-told|known) has no price for"):
            check(tmp_path, model, **body)
    with pytest.raises(Surcharge, match="open/known has no price for"):
        check(tmp_path, "told", workflow="thrifty", **body)


@pytest.mark.parametrize("tier", ["auto", "default", "flex", "standard", "standard_only", "on_demand", None])
def test_a_tier_at_standard_price_or_less_needs_no_price(tmp_path: Path, tier: str | None) -> None:
    check(tmp_path, "open/known", service_tier=tier)


@pytest.mark.parametrize("tier", [2, ["priority"], "x" * 100])
def test_an_unknown_tier_is_not_repeated(tmp_path: Path, tier: Any) -> None:
    with pytest.raises(Surcharge, match="no price for service_tier, and"):
        check(tmp_path, "open/known", service_tier=tier)


@pytest.mark.parametrize(
    ("url", "body", "words"),
    [
        (RESPONSES, {"tools": [{"type": "web_search"}]}, 'the tool "web_search" costs a fee'),
        (RESPONSES, {"tools": [{"type": "function"}, {"type": "web_search_preview"}]}, '"web_search_preview"'),
        (RESPONSES, {"tools": [{"type": "file_search", "vector_store_ids": ["vs"]}]}, '"file_search"'),
        (RESPONSES, {"tools": [{"type": "code_interpreter"}]}, '"code_interpreter"'),
        (RESPONSES, {"tools": [{"type": "image_generation"}]}, '"image_generation"'),
        (MESSAGES, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, '"web_search_20250305"'),
        (MESSAGES, {"tools": [{"type": "code_execution_20250825", "name": "x"}]}, '"code_execution_20250825"'),
        (CHAT, {"web_search_options": {}}, "body.web_search_options costs a fee"),
        (CHAT, {"plugins": [{"id": "web"}]}, "body.plugins"),
        (CHAT, {"search_parameters": {"mode": "auto"}}, "body.search_parameters"),
        (CHAT, {"search_parameters": {}}, "body.search_parameters"),
        (CHAT, {"tools": [{"google_search": {}}]}, "the tool costs a fee"),
    ],
)
def test_a_hosted_tool_with_a_fee_is_refused(tmp_path: Path, url: str, body: dict[str, Any], words: str) -> None:
    model = "claude/known" if url == MESSAGES else "told"
    with pytest.raises(Surcharge, match=rf"{words}.* and a budget applies, which cannot hold it: leave it out"):
        check(tmp_path, model, url=url, **body)
    check(tmp_path, model, url=url, workflow="free", **body)
    if url == CHAT:
        check(tmp_path, "own/free", url=url, **body)


@pytest.mark.parametrize(
    ("url", "tool"),
    [
        (CHAT, {"type": "function", "function": {"name": "f"}}),
        (CHAT, {"function": {"name": "f"}}),
        (RESPONSES, {"type": "custom", "name": "f"}),
        (RESPONSES, {"type": "mcp", "server_label": "s", "server_url": "https://example.com"}),
        (RESPONSES, {"type": "computer_use_preview"}),
        (MESSAGES, {"name": "f", "input_schema": {}}),
        (MESSAGES, {"type": "custom", "name": "f", "input_schema": {}}),
        (MESSAGES, {"type": "bash_20250124", "name": "bash"}),
        (MESSAGES, {"type": "web_fetch_20250910", "name": "web_fetch"}),
    ],
)
def test_a_tool_that_costs_only_tokens_is_accepted(tmp_path: Path, url: str, tool: dict[str, Any]) -> None:
    check(tmp_path, "claude/known" if url == MESSAGES else "told", url=url, tools=[tool])


def test_a_search_that_is_off_is_free(tmp_path: Path) -> None:
    check(tmp_path, "open/known", search_parameters={"mode": "off"})


@pytest.mark.parametrize(
    ("url", "body"),
    [
        (CHAT, {"models": ["dear"]}),
        (CHAT, {"models": ["known", "dear"], "route": "fallback"}),
        (CHAT, {"models": "known"}),
        (CHAT, {"fallbacks": [{"model": "dear"}]}),
        (MESSAGES, {"fallbacks": [{"model": "dear"}]}),
        (MESSAGES, {"fallbacks": [{"model": "known"}, {"model": "known", "max_tokens": 64_000}]}),
        (RESPONSES, {"models": ["dear"]}),
    ],
)
def test_a_fallback_model_needs_a_price(tmp_path: Path, url: str, body: dict[str, Any]) -> None:
    model, field = "claude/known" if url == MESSAGES else "open/known", "fallbacks" if "fallbacks" in body else "models"
    words = rf"body\.{field} lets other models than {model} answer, at prices of their own, and a budget applies"
    with pytest.raises(Surcharge, match=words) as refused:
        check(tmp_path, model, url=url, **body)
    assert refused.value.code == "no_price"
    check(tmp_path, model, url=url, workflow="free", **body)
    if url == CHAT:
        with pytest.raises(Surcharge, match="than open/told answer"):
            check(tmp_path, "told", url=url, **body)
        check(tmp_path, "own/free", url=url, **body)


@pytest.mark.parametrize("field", ["models", "fallbacks"])
@pytest.mark.parametrize("value", [None, [], ["known"], [{"model": "known"}, "known"]])
def test_falling_back_to_nothing_else_is_free(tmp_path: Path, field: str, value: Any) -> None:
    check(tmp_path, "open/known", **{field: value})
    check(tmp_path, "claude/known", url=MESSAGES, **{field: value})
    if value:
        with pytest.raises(Surcharge, match="than open/told answer"):
            check(tmp_path, "mix", **{field: value})


@pytest.mark.parametrize("model", ["groq/compounding", "open/groq/compounded"])
def test_a_model_is_not_taken_for_one_that_searches(tmp_path: Path, model: str) -> None:
    check(tmp_path, model)


@pytest.mark.parametrize(
    "model",
    [
        *("open/gpt-9-search-preview", "open/x:online"),
        *("groq/groq/compound", "groq/groq/compound-mini", "groq/compound-beta", "groq/compound-beta-mini"),
    ],
)
def test_a_model_that_always_searches_is_refused(tmp_path: Path, model: str) -> None:
    with pytest.raises(Surcharge, match=f"the model {model} costs a fee"):
        check(tmp_path, model)
    check(tmp_path, model, workflow="free")
