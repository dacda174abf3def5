"""The metrics of the lanes: answers and savings of each."""

from tasks.monitoring.costs import Spent
from tasks.monitoring.lane_metrics import saved


def test_answers_and_savings_are_counted_by_lane() -> None:
    spent = Spent(calls=10, batch_calls=4, batch_saved=3_000_000_000, flex_calls=5, flex_saved=1_000_000_000)
    calls, money = saved({("nightly", "acme", "small"): spent})
    found = {sample.labels["lane"]: sample.value for sample in calls.samples}
    assert found == {"batch": 4, "flex": 5, "live": 1}
    assert [sample.value for sample in money.samples] == [4.0]
