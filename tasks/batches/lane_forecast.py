"""What a file would cost by the lanes that its batch may use, and when it would be done; before anything is sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from limits.budget import NANO
from tasks.batches import takeover
from tasks.batches.batch_lane import Carriers
from tasks.batches.lane_times import LaneTimes
from tasks.jobs import flex
from tasks.jobs.job import Job, Line
from tasks.jobs.state import JobState
from workers.config.settings import Settings
from workers.models.routing import Route
from workers.models.tiers import BATCH, FLEX

_TOO_NEAR: Final = "the deadline is too near: a provider batch must have batch_min_time until its latest moment"
_TOO_SLOW: Final = "the deadline is too near: half of the latest provider batches have taken longer"


@dataclass(slots=True)
class Carried:
    """Lines by lane, and what all of them would cost (n$), with those that go live."""

    batch: float = 0.0
    flex: float = 0.0
    cost: float = 0.0

    def add(self, lane: str, cost: float) -> None:
        """Add a line that costs `cost`."""
        self.batch += lane == BATCH
        self.flex += lane == FLEX
        self.cost += cost

    def scaled(self, lines: float, money: float) -> "Carried":
        """All lines of a group, from those that were counted: the factors of its lines and of their money."""
        return Carried(self.batch * lines, self.flex * lines, self.cost * money)

    def __add__(self, other: "Carried") -> "Carried":
        return Carried(self.batch + other.batch, self.flex + other.flex, self.cost + other.cost)


@dataclass(frozen=True, slots=True)
class LaneForecast:
    """The forecast of one file by lanes.

    - `lines` that the batch lane carries, and `flex` lines, of `total`; `cost` (n$) with them and `live_cost` without,
      None if a model has no price.
    - `seconds` until all lines are done at the latest; `last_call`: seconds until the rest would be taken over.
    - `half` and `nine_tenths`: seconds within which that many provider batches of the slowest target have ended lately,
      0 if unknown.
    - `reason`: why no line goes through a cheaper lane, '' if some do.
    """

    lines: int
    total: int
    cost: int | None
    live_cost: int | None
    seconds: float
    last_call: float
    reason: str = ""
    flex: int = 0
    half: float = 0.0
    nine_tenths: float = 0.0

    def shown(self) -> dict[str, Any]:
        """As `overnight estimate --json` prints it."""
        return {
            "batch_lines": self.lines,
            "flex_lines": self.flex,
            "cost_usd": None if self.cost is None else self.cost / NANO,
            "done_in_seconds_at_the_latest": round(self.seconds, 1),
            "live_from_seconds": round(self.last_call, 1),
            "half_done_in_seconds": round(self.half, 1) or None,
            "nine_tenths_done_in_seconds": round(self.nine_tenths, 1) or None,
            "reason": self.reason or None,
        }


class LaneTally:
    """Which lane would carry a line. Without a cheaper lane, nothing but live calls."""

    def __init__(self, settings: Settings, workflow: str, lanes: Sequence[str], times: LaneTimes) -> None:
        self.settings = settings
        self.times = times
        self.targets: set[str] = set()
        self.workflow = settings.workflow(workflow)
        self.lanes = tuple(lanes)
        self.carriers = Carriers(settings)
        self.budgeted = settings.budget_nano is not None or self.workflow.budget_nano is not None

    def cheaper(self, line: Line, routes: Sequence[Route], *, batch: bool = True) -> tuple[str, list[Route]]:
        """The cheaper lane of a line, and the routes that it takes there; '' if it goes live.

        Without `batch`, as if there were no time for the batch lane.
        """
        if batch and BATCH in self.lanes:
            route = self.carriers.route(line, routes, budgeted=self.budgeted)
            if route is not None:
                self.targets.add(route.target)
                return BATCH, [route]
        if FLEX in self.lanes and flex.may_carry(Job(line, "", ""), JobState()):
            return (FLEX, list(routes)) if flex.having_flex(routes) else ("", [])
        return "", []

    def forecast(
        self, with_batch: Carried, without: Carried, *, total: int, live_cost: int | None, seconds: float
    ) -> LaneForecast:
        """The forecast: what the lanes carry with the batch lane and without it; `seconds` are what all need live."""
        deadline, cancel = self.workflow.deadline, 0.0
        least = max(self.workflow.batch_min_time, self.times.typical(self.targets))
        timeout = max((each.flex_timeout for each in self.settings.providers.values()), default=0.0)
        if with_batch.batch:
            cancel = max((each.batch_cancel_time for each in self.settings.providers.values()), default=0.0)
        last_call = deadline * (1 - takeover.MARGIN) - takeover.with_safety(seconds, total)
        found, reason = with_batch, ""
        if not with_batch.batch or last_call - cancel < least:
            found, reason = without, "no line can go through a Batch API" if BATCH in self.lanes else ""
            if with_batch.batch:
                reason = _TOO_NEAR if least == self.workflow.batch_min_time else _TOO_SLOW
        if found.flex and last_call < timeout:
            reason = "the deadline is too near: a flex call may take flex_timeout"
            found = Carried(found.batch, 0.0, found.cost) if found.batch else Carried()
        if not found.batch and not found.flex:
            words = reason or "no model has a price for its flex tier: set flex_price"
            return LaneForecast(0, total, live_cost, live_cost, seconds, 0.0, words)
        cost = None if live_cost is None else round(found.cost)
        ends = last_call - (cancel if found.batch else 0.0)
        flex_lines, lines = round(found.flex), round(found.batch)
        half, most = (self._slowest(part) if lines else 0.0 for part in (0.5, 0.9))
        return LaneForecast(
            lines, total, cost, live_cost, deadline, ends, flex=flex_lines, half=half, nine_tenths=min(most, deadline)
        )

    def _slowest(self, part: float) -> float:
        """Seconds within which this part of the slowest target's provider batches had ended; 0 if one is unknown."""
        found = [self.times.of(target).within(part) for target in self.targets]
        return max(found) if found and all(found) else 0.0
