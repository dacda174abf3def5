"""Made-up names in metrics: a hundred have their own series, and the others are summed."""

from tasks.monitoring import metrics
from tasks.monitoring.costs import Spent
from tasks.monitoring.labels import MOST, OTHER, Labels


def test_the_most_called_rows_have_series_and_others_are_summed() -> None:
    month: dict[metrics.Row, Spent] = {
        ("w", "acme", f"m{calls}"): Spent(calls=calls, cost=2) for calls in range(1, 501)
    }
    month["nightly", "acme", "small"] = Spent(calls=0)
    month["w", "other", "m"] = Spent(calls=0)
    labels = Labels([("nightly", "acme", "small")])
    found = metrics.named(month, labels)
    assert len(found) == MOST + 3
    assert ("nightly", "acme", "small") in found, "a configured name always has a series"
    assert found["w", "acme", "m500"] == Spent(calls=500, cost=2)
    assert found[OTHER, "acme", OTHER] == Spent(calls=400 * 401 // 2, cost=800)
    assert sum(spent.calls for spent in found.values()) == 500 * 501 // 2


def test_a_row_keeps_its_series() -> None:
    labels = Labels()
    month: dict[metrics.Row, Spent] = {("w", "acme", f"m{calls}"): Spent(calls=calls) for calls in range(1, 201)}
    before = metrics.named(month, labels)
    month["w", "acme", "m1"] = Spent(calls=10_000)
    after = metrics.named(month, labels)
    assert set(after) == set(before)
    assert after[OTHER, "acme", OTHER].calls > before[OTHER, "acme", OTHER].calls, "a counter never decreases"
