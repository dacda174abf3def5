"""Sums of the ledger."""

from datetime import date

import pytest

from tasks.monitoring import costs
from tasks.monitoring.costs import Costs, Entry, Spent
from tasks.monitoring.flower.workflow_rows import cached_today

DAY = date(2026, 11, 25)


def entry(workflow: str, batch: str, target: str, spent: Spent) -> Entry:
    provider, _, model = target.partition("/")
    return Entry(DAY, workflow, batch, provider, model, spent)


FOUND = Costs(
    DAY,
    DAY,
    (
        entry("nightly", "batch_1", "acme/small", Spent(calls=3, cost=30)),
        entry("nightly", "batch_1", "other/small", Spent(calls=1, cost=100, failed_cost=1)),
        entry("weekly", "", "acme/small", Spent(calls=1, failed_calls=1, presumed_cost=7, presumed=1)),
    ),
)


def test_sums_are_grouped_with_the_most_expensive_first() -> None:
    assert [(name, spent.total) for name, spent in FOUND.by(costs.workflow)] == [("nightly", 131), ("weekly", 7)]
    assert [(name, spent.total) for name, spent in FOUND.by(costs.target)] == [("other/small", 101), ("acme/small", 37)]
    assert [(name, spent.total) for name, spent in FOUND.by(costs.provider)] == [("other", 101), ("acme", 37)]
    assert [name for name, _ in FOUND.by(costs.batch)] == ["batch_1", "(single jobs)"]


def test_failed_and_presumed_money_have_their_own_sums() -> None:
    shown = FOUND.shown()["total"]
    assert (shown["cost_usd"], shown["failed_usd"], shown["presumed_usd"]) == (130e-9, 1e-9, 7e-9)
    assert (shown["calls"], shown["failed_calls"], shown["presumed_calls"]) == (5, 1, 1)
    assert shown["total_usd"] == 138e-9


def test_the_share_of_cached_tokens_and_what_it_saved_are_told() -> None:
    cached = Spent(input_tokens=1_000, cached_tokens=900, cache_saved=2_500_000_000)
    assert costs.cache_words(cached) == "90.0% of the input tokens, saved $2.50"
    assert cached.shown()["prompt_cache"] == {"cached_tokens": 900, "share": 0.9, "saved_usd": 2.5}
    assert costs.cache_words(Spent(input_tokens=1_000)) == ""
    dear = Spent(input_tokens=1_000, cache_saved=-500_000_000)
    assert costs.cache_words(dear).endswith("has cost $0.5 more than reading has saved")


def test_flower_shows_what_each_batch_has_from_the_cache() -> None:
    rows = [
        entry("nightly", "batch_1", "acme/small", Spent(input_tokens=100, cached_tokens=80, cache_saved=10**9)),
        entry("nightly", "batch_1", "other/small", Spent(input_tokens=100)),
        entry("nightly", "batch_2", "other/small", Spent(input_tokens=100)),
    ]
    assert cached_today(rows) == {"batch_1": "cached today: 40.0% of the input tokens, saved $1.00"}


@pytest.mark.parametrize(
    ("text", "begins"),
    [("2026-11-01", date(2026, 11, 1)), ("7d", date(2026, 11, 18)), ("1w", date(2026, 11, 18)), ("12h", DAY)],
)
def test_since_is_a_day_or_a_duration(text: str, begins: date) -> None:
    assert costs.since(text, DAY) == begins


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "-3d", "500d", ""])
def test_any_other_since_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--since must be a day"):
        costs.since(text, DAY)
