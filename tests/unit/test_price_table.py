"""The price table of `genai-prices`: what it matches, and what it never guesses."""

import random
import subprocess
import sys
from datetime import UTC, datetime

import genai_prices
import pytest
from genai_prices import data_snapshot

from limits.counting import Usage
from workers.models import price_table
from workers.models.price_lookup import Query, lookup

NOW = datetime(2026, 11, 24, 2, tzinfo=UTC)


def test_the_lookup_process_reports_what_it_matched(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = [
        Query("main", "gpt-4o-mini", "https://api.openai.com/v1"),
        Query("claude", "claude-sonnet-4-5-mine", "https://api.anthropic.com"),
        Query("local", "gpt-4o", "http://127.0.0.1:8000/v1"),
        Query("groq", "llama-3.3-70b-versatile", tier="batch"),
    ]
    found = lookup(asked)
    assert found.keys() == {
        "main/gpt-4o-mini",
        "claude/claude-sonnet-4-5-mine",
    }
    mini = found["main/gpt-4o-mini"]
    assert mini.source.startswith("genai-prices ")
    assert mini.source.endswith(": openai/gpt-4o-mini")
    assert mini.cost(Usage(input=10**6, output=10**6)) == 750_000_000
    assert [band.above for band in found["claude/claude-sonnet-4-5-mine"].bands] == [0, 200_000]
    assert "claude/claude-sonnet-4-5-mine: priced as anthropic/claude-sonnet-4-5;" in caplog.text
    assert (
        "genai_prices"
        not in subprocess.run(
            [
                sys.executable,
                "-c",
                "import workers.models.prices, sys; print([m for m in sys.modules if 'genai' in m])",
            ],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    )  # and no worker ever loads it


@pytest.mark.parametrize(
    ("query", "matched"),
    [
        (Query("x", "gpt-4o", "https://api.openai.com/v1"), "openai/gpt-4o"),
        (Query("x", "gpt-4o", "https://api.openai.com"), "openai/gpt-4o"),
        (Query("x", "gpt-4o", "https://api.openai.com.elsewhere.net/v1"), None),
        (Query("x", "kimi-k2-0905-preview", "https://api.moonshot.ai/v1"), "moonshotai/kimi-k2-0905-preview"),
        (Query("x", "gpt-4o", "https://mine.openai.azure.com/"), "openai/gpt-4o"),
        (Query("openai", "gpt-4o"), "openai/gpt-4o"),
        (Query("OpenAI", "GPT-4o"), "openai/gpt-4o"),
        (Query("my-openai", "gpt-4o"), None),
        (Query("openai", "gpt-4o", "http://localhost:11434/v1"), None),
        (Query("openai", "no-such-model"), None),
        (Query("openai", ""), None),
        (Query("openai", "gpt-4o", tier="express"), None),
    ],
)
def test_a_provider_is_identified_by_its_address_never_guessed(query: Query, matched: str | None) -> None:
    rates, _ = price_table.find(query, NOW)
    assert (rates.source.partition(": ")[2] if rates else None) == matched


@pytest.mark.parametrize(
    ("asked", "found", "same"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o-2024-08-06", "gpt-4o", True),
        ("claude-sonnet-4-20250514", "claude-sonnet-4", True),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet", True),
        ("gpt-4o-mini", "gpt-4o", False),
        ("claude-sonnet-4-5-mine", "claude-sonnet-4-5", False),
    ],
)
def test_a_literal_match_may_differ_in_the_release(asked: str, found: str, same: bool) -> None:
    assert price_table._literal(asked, found) is same


def test_a_batch_price_is_half_the_standard_one() -> None:
    standard, _ = price_table.find(Query("openai", "gpt-4o-mini"), NOW)
    batch, _ = price_table.find(Query("openai", "gpt-4o-mini", tier="batch"), NOW)
    assert standard is not None
    assert batch is not None
    assert 2 * batch.bands[0].input == standard.bands[0].input


def test_every_model_of_the_table_has_rates_that_bound_its_own_arithmetic() -> None:

    rng = random.Random(13)
    models = [(p, m) for p in data_snapshot.get_snapshot().providers for m in p.models]
    compared = 0
    for provider, model in rng.sample(models, 400):
        rates, _ = price_table.find(Query(provider.id, model.id), NOW)
        if rates is None:
            continue
        usage = Usage(rng.choice([10, 150_000, 300_000]), 0, 0, rng.randint(0, 5_000))
        taken, _ = data_snapshot.get_snapshot().find_provider_model(model.id, None, provider.id, None)
        theirs = genai_prices.calc_price(
            genai_prices.Usage(input_tokens=usage.input, output_tokens=usage.output),
            model.id,
            provider_id=taken.id,
            genai_request_timestamp=NOW,
        )
        assert rates.cost(usage) >= theirs.total_price * 10**9 - 1, (provider.id, model.id)
        compared += 1
    assert compared > 250


def test_an_unreadable_table_is_an_error_not_a_missing_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ValueError, match="exit status 1"):
        lookup([Query("openai", "gpt-4o")])
    assert lookup([]) == {}


# ---- shared -----------------------------------------------------------------------------------------------
