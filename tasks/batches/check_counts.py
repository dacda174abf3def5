"""What the checks of a batch's answers have found, as its record counts it."""

from collections.abc import Mapping
from typing import Any

from limits.budget import NANO
from tasks.answers.checks import NOT_VALID
from workers.figures import dollars

#: The results that are shown, in this order.
RESULTS = (*NOT_VALID, "unchecked")


def by_result(counts: Mapping[str, int]) -> dict[str, int]:
    """Answers that are not what their lines asked for, by what is wrong."""
    sums = {name: counts.get(name, 0) + counts.get(f"failed_{name}", 0) for name in RESULTS}
    return {name: count for name, count in sums.items() if count}


def again(counts: Mapping[str, int], cost: int) -> dict[str, Any] | None:
    """Lines that asked for further answers, how many of them got a valid one, and what these cost; None if none did."""
    if not counts.get("again"):
        return None
    return {"lines": counts["again"], "fixed": counts.get("fixed", 0), "cost_usd": cost / NANO}


def words(counts: Mapping[str, int], cost: int) -> str:
    """The same for people: in status, in summaries and in Flower. '' if all answers are valid."""
    found = [f"{count:,} {name}" for name, count in by_result(counts).items()]
    if more := again(counts, cost):
        found.append(f"{more['fixed']:,} of {more['lines']:,} fixed by further answers for {dollars(cost)}")
    return ", ".join(found)
