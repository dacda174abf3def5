"""What a file would cost by the lanes that its batch may use, and when it would be done; before anything is sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limits.budget import NANO
from tasks.batches import takeover
from tasks.batches.batch_lane import Carriers
from tasks.jobs.job import Line
from workers.config.settings import Settings
from workers.models.routing import Route


@dataclass(frozen=True, slots=True)
class LaneForecast:
    """The forecast of one file by lanes.

    - `lines` that the batch lane carries, of `total`; `cost` (n$) with it and `live_cost` without, None if a model has
      no price.
    - `seconds` until all lines are done at the latest; `last_call`: seconds until the rest would be taken over.
    - `reason`: why no line goes through the batch lane, '' if some do.
    """

    lines: int
    total: int
    cost: int | None
    live_cost: int | None
    seconds: float
    last_call: float
    reason: str = ""

    def shown(self) -> dict[str, Any]:
        """As `overnight estimate --json` prints it."""
        return {
            "batch_lines": self.lines,
            "cost_usd": None if self.cost is None else self.cost / NANO,
            "done_in_seconds_at_the_latest": round(self.seconds, 1),
            "live_from_seconds": round(self.last_call, 1),
            "reason": self.reason or None,
        }


class LaneTally:
    """Counts what the batch lane would carry. Without the batch lane, nothing."""

    def __init__(self, settings: Settings, workflow: str, lanes: Sequence[str]) -> None:
        self.settings = settings
        self.workflow = settings.workflow(workflow)
        self.lanes = tuple(lanes)
        self.carriers = Carriers(settings)
        self.budgeted = settings.budget_nano is not None or self.workflow.budget_nano is not None

    def share(self, line: Line, routes: Sequence[Route]) -> float | None:
        """The price of a line in the batch lane, as a part of its live price; None if it goes live."""
        if "batch" not in self.lanes:
            return None
        route = self.carriers.route(line, routes, budgeted=self.budgeted)
        return None if route is None else self.carriers.share(route)

    def forecast(
        self, *, lines: int, total: int, cost: int | None, live_cost: int | None, seconds: float
    ) -> LaneForecast:
        """The forecast: `lines` of `total` fit into the batch lane, and `seconds` are what all of them need live."""
        deadline = self.workflow.deadline
        longest = max((each.batch_cancel_time for each in self.settings.providers.values()), default=0.0)
        rest = takeover.with_safety(seconds, total)
        last_call = deadline * (1 - takeover.MARGIN) - rest - longest
        if not lines:
            return LaneForecast(0, total, live_cost, live_cost, seconds, 0.0, "no line can go through a Batch API")
        if last_call < self.workflow.batch_min_time:
            words = "the deadline is too near: a provider batch must have batch_min_time until its latest moment"
            return LaneForecast(0, total, live_cost, live_cost, seconds, 0.0, words)
        return LaneForecast(lines, total, cost, live_cost, deadline, last_call)
