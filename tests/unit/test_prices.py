"""What calls cost to the last nano-dollar, what they can cost at most, and where prices come from."""

import random
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Any

import pytest

from limits.counting import Estimate, Usage
from workers.models.prices import Band, Rates, flat, per_million, resolve

SONNET = Rates(
    (
        Band(3 * 10**9, 15 * 10**9, 3 * 10**8, 3_750_000_000, 6 * 10**9, 3 * 10**9),
        Band(6 * 10**9, 22_500_000_000, 6 * 10**8, 7_500_000_000, 12 * 10**9, 6 * 10**9, above=200_000),
    ),
    source="test",
    at=1,
    window=1_000_000,
)


def test_dollars_become_whole_nano_dollars_a_million_tokens() -> None:
    assert per_million(0.15) == 150_000_000
    assert per_million(Decimal("0.01")) == 10_000_000  # 10 n$ a token
    assert per_million(0.0833333333333333) == 83_333_334  # rounded up, never down
    assert per_million(0) == 0


@pytest.mark.parametrize("price", [-1, float("nan"), float("inf"), 1_000_001])
def test_an_invalid_price_is_refused(price: float) -> None:
    with pytest.raises(ValueError, match="a price must be"):
        per_million(price)


def test_a_call_costs_what_its_kinds_of_tokens_cost() -> None:
    usage = Usage(input=1_000, cached=600, cache_write=300, output=10, cache_write_1h=100)
    # 100 at $3, 600 at $0.30, 200 at $3.75, 100 at $6 and 10 at $15 a million
    assert SONNET.cost(usage) == (300 + 180 + 750 + 600 + 150) * 1_000
    assert flat(0.01, 0.01).cost(Usage(input=1)) == 10


def test_a_fraction_of_a_nano_dollar_rounds_up() -> None:
    assert flat("0.000001", 0).cost(Usage(input=1)) == 1  # type: ignore[arg-type]  # read like any number
    assert flat(0, 0).cost(Usage(input=10**6, output=10**6)) == 0


def test_a_long_prompt_pays_the_long_price_for_all_its_tokens() -> None:
    assert SONNET.cost(Usage(input=200_000)) == 200_000 * 3_000
    assert SONNET.cost(Usage(input=200_001)) == 200_001 * 6_000
    assert SONNET.cost(Usage(input=200_001, output=1)) == 200_001 * 6_000 + 22_500


def test_a_fee_is_added_for_each_request() -> None:
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


def test_sums_are_exact_and_never_above_the_ceiling() -> None:
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
    cached_usd_per_mtok: float | None = None
    cache_write_usd_per_mtok: float | None = None


def test_the_configuration_wins_over_the_table() -> None:
    shared = {"a/m": SONNET}
    found = resolve(Model(0.5, 2.0), shared, "a/m")
    assert found is not None
    assert (found.source, found.cost(Usage(input=10**6, output=10**6))) == ("configuration", 2_500_000_000)
    assert resolve(Model(), shared, "a/m") is SONNET
    assert resolve(None, shared, "a/m") is SONNET


def test_the_prompt_cache_has_prices_of_its_own_if_they_are_configured() -> None:
    found = resolve(Model(2.0, 8.0, cached_usd_per_mtok=0.2, cache_write_usd_per_mtok=2.5), {}, "a/m")
    assert found is not None
    usage = Usage(input=1_000, cached=600, cache_write=300)
    assert found.cost(usage) == (100 * 20 + 600 * 2 + 300 * 25) * 100
    assert found.cache_saving(usage) == (600 * 18 - 300 * 5) * 100
    assert found.cache_saving(Usage(input=1_000, cache_write=1_000)) == -500_000


def test_no_price_is_not_zero() -> None:
    assert resolve(Model(), {}, "a/m") is None
    assert resolve(Model(input_usd_per_mtok=0.0), {}, "a/m") is None
    free = resolve(Model(0.0, 0.0), {}, "a/m")
    assert free is not None
    assert free.ceiling(Estimate(1, 10**6, 10**6)) == 0


def test_one_configured_price_is_completed_with_the_highest_of_the_other() -> None:
    found = resolve(Model(input_usd_per_mtok=1.0), {"a/m": SONNET}, "a/m")
    assert found is not None
    assert (found.bands[0].input, found.bands[0].output) == (10**9, 22_500_000_000)
    found = resolve(Model(output_usd_per_mtok=1.0), {"a/m": SONNET}, "a/m")
    assert found is not None
    assert (found.bands[0].input, found.bands[0].output) == (12 * 10**9, 10**9)
