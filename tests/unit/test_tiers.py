"""What the Batch API and a service tier cost: as configured, as the price table says, or a part of the live price."""

from datetime import UTC, datetime
from typing import Any

import pytest

from workers.config.settings import Settings
from workers.models import price_table
from workers.models.price_lookup import Query
from workers.models.prices import Band, Rates, flat
from workers.models.routing import Route, Routes
from workers.models.tiers import BATCH, FLEX

LIVE = Rates((Band(1_000, 4_000, 100, 1_250, 2_000, 1_000),))
TABLE = {"acme/m": LIVE, "acme/m#batch": flat(0.3, 0.9), "acme/m#flex": flat(0.4, 0.8), "acme/m#priority": flat(2, 8)}


def route(shared: dict[str, Rates] | None = None, base_url: str = "http://127.0.0.1:1/v1", **model: Any) -> Route:
    acme = {"api": "openai", "base_url": base_url, "models": {"m": model}}
    settings = Settings.model_validate({"providers": {"acme": acme}})
    return Routes(settings, TABLE if shared is None else shared).find("m", "/v1/chat/completions")[0]


def test_the_tables_own_prices_are_used() -> None:
    tiers = route().tiers
    assert (tiers[BATCH], tiers[FLEX]) == (TABLE["acme/m#batch"], TABLE["acme/m#flex"])


def test_a_configured_share_wins() -> None:
    tiers = route(batch_price=0.25, flex_price=0.75).tiers
    assert [tiers[name].bands[0].input for name in (BATCH, FLEX)] == [250, 750]


def test_without_a_table_price_the_batch_api_costs_half_and_there_is_no_flex() -> None:
    tiers = route({"acme/m": LIVE}).tiers
    assert tiers[BATCH].bands[0] == Band(500, 2_000, 50, 625, 1_000, 500)
    assert FLEX not in tiers


def test_the_table_says_nothing_of_a_configured_price() -> None:
    tiers = route(input_usd_per_mtok=1.0, output_usd_per_mtok=2.0).tiers
    assert set(tiers) == {BATCH}
    assert tiers[BATCH].bands[0].output == 1_000_000_000


@pytest.mark.parametrize(
    ("base_url", "cached"),
    [
        ("https://api.openai.com/v1", 50),
        ("https://api.groq.com/openai/v1", 500),
        ("https://generativelanguage.googleapis.com/v1beta/openai", 100),
    ],
)
def test_cached_tokens_of_a_provider_batch_cost_what_the_provider_says(base_url: str, cached: int) -> None:
    assert route({"acme/m": LIVE}, base_url).tiers[BATCH].bands[0].cached == cached


def test_a_dearer_tier_is_held_and_a_cheaper_one_is_not() -> None:
    found = route()
    assert found.at_tier("priority").rates == TABLE["acme/m#priority"]
    assert found.at_tier("priority").billed_at("default") == LIVE
    assert found.at_tier("priority").billed_at("") == TABLE["acme/m#priority"]
    assert found.at_tier(FLEX).rates == LIVE
    assert found.at_tier(FLEX).billed_at(FLEX) == TABLE["acme/m#flex"]
    assert found.at_tier("unheard of") is found


def test_flex_shares_the_models_quota_but_not_its_pause_and_circuit() -> None:
    found = route()
    flex = found.at_tier(FLEX)
    assert flex.buckets[:-1] == found.buckets
    assert flex.buckets[-1][0] == "flex:acme/0/m"
    assert (found.circuit, flex.circuit) == ("acme/m", "flex:acme/m")


def test_the_table_has_flex_and_priority_prices_of_openai() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    plain, flex, dear, none = (
        price_table.find(Query("openai", model, tier=tier), now)[0]
        for model, tier in (("gpt-5", ""), ("gpt-5", "flex"), ("gpt-5", "priority"), ("gpt-4o-mini", "flex"))
    )
    assert plain is not None
    assert flex is not None
    assert dear is not None
    assert flex.bands[0].output * 2 == plain.bands[0].output
    assert dear.bands[0].output > plain.bands[0].output
    assert none is None, "a tier that the table doesn't list has no price"
