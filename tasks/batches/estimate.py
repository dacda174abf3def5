"""What a file of jobs would take: tokens, money, and the time within the configured limits.

Input tokens are counted as the workers count them, corrected by what each model's earlier answers reported. Output
tokens are the average of the model's answers; if it has none yet, the ceiling that the line states. The time is that
of the slowest limit. How fast a provider answers is not estimated.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from limits.bucket import PERIODS, Quota
from limits.budget import NANO
from limits.counting import UNKNOWN_OUTPUT, Estimate, Usage, admission
from tasks.batches import further_cost
from tasks.batches.batch import Batch
from tasks.batches.lane_forecast import Carried, LaneForecast, LaneTally
from tasks.batches.precheck import Precheck
from tasks.jobs.attempt import assess
from tasks.jobs.job import Line
from tasks.jobs.reasons import DIMENSIONS, subject
from workers.models.calibration import Ratios
from workers.models.routing import Route

#: Lines of each model that are all counted.
COUNTED: Final = 2_000

#: After those, one line in `ONE_IN` is counted, and stands for the others.
ONE_IN: Final = 10

#: Targets whose names a batch's record keeps.
MAX_TARGETS = 50


@dataclass(slots=True)
class _Group:
    """The lines of one model and url: the number of all, and sums over those that were counted."""

    routes: tuple[Route, ...]
    lines: int = 0
    bytes: int = 0
    counted_lines: int = 0
    counted_bytes: int = 0
    input: float = 0.0
    output: float = 0.0
    cost: float = 0.0
    by_lanes: Carried = field(default_factory=Carried)
    without_batch: Carried = field(default_factory=Carried)
    ceiling: int = 0
    further: int = 0
    costs: list[list[int]] = field(default_factory=list)

    @property
    def scale(self) -> float:
        """The factor from the sums of counted lines to those of all lines, by bytes."""
        return self.bytes / self.counted_bytes if self.counted_bytes else 0.0

    def capacities(self) -> list[float]:
        """The jobs per second that each route's limits allow."""
        found = []
        for route, costs in zip(self.routes, self.costs, strict=True):
            most = float("inf")
            for _, quota in route.buckets:
                for position, dimension in enumerate(PERIODS):
                    if (rate := _rate(quota, dimension)) and costs[position]:
                        most = min(most, rate * self.counted_lines / costs[position])
            found.append(most)
        return found

    def shares(self) -> list[float]:
        """The part of the lines that would take each route: by its limits, or by weight if a route has none."""
        capacities = self.capacities()
        free = [
            route.weight if most == float("inf") else 0.0 for route, most in zip(self.routes, capacities, strict=True)
        ]
        parts = free if any(free) else capacities
        return [part / sum(parts) for part in parts]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the jobs of a file are expected to take. Money is in n$, None if a model has no price.

    `ceiling` is the highest possible cost of one answer a line, and `further` that of all further ones. `seconds` is
    the time that the slowest limit needs, 0 if there is no limit; `limit` names that limit. `targets`
    (`provider/model`) are those that the jobs may go to. `agents` is the number of lines that call agents. Their calls
    are unknown until they run, so no figure includes them. `copies` lines repeat
    another one and cost nothing.
    """

    lines: int
    input: int
    output: int
    cost: int | None
    ceiling: int | None
    seconds: float
    limit: str
    targets: tuple[str, ...]
    unpriced: tuple[str, ...] = ()
    agents: int = 0
    lanes: LaneForecast | None = None
    copies: int = 0
    further: int | None = 0

    def shown(self) -> dict[str, Any]:
        """As `overnight estimate --json` prints it."""
        return {
            "lines": self.lines,
            "agent_lines": self.agents,
            "copies": self.copies,
            "input_tokens": self.input,
            "output_tokens": self.output,
            "cost_usd": None if self.cost is None else self.cost / NANO,
            "ceiling_usd": None if self.ceiling is None else self.ceiling / NANO,
            "further_answers_ceiling_usd": None if self.further is None else self.further / NANO,
            "seconds": round(self.seconds, 1),
            "limit": self.limit or None,
            "unpriced_models": list(self.unpriced),
            "lanes": None if self.lanes is None else self.lanes.shown(),
        }


class Tally:
    """Sums up lines as they are read."""

    def __init__(self, precheck: Precheck, ratios: Ratios, lanes: LaneTally | None = None) -> None:
        self.lanes = lanes
        self.precheck = precheck
        self.ratios = ratios
        self.groups: dict[tuple[str, str], _Group] = {}
        self.agents = 0
        self.copies = 0

    def add(self, line: Line, size: int) -> None:
        """Add a line of `size` bytes."""
        if line.agent:
            self.agents += 1
            return
        name = (line.model, line.url)
        group = self.groups.get(name)
        if group is None:
            routes = self.precheck.routes(line)
            group = self.groups[name] = _Group(routes, costs=[[0] * len(PERIODS) for _ in routes])
        group.lines += 1
        group.bytes += size
        if group.counted_lines < COUNTED or group.lines % ONE_IN == 0:
            self._count(group, line, size)

    def _count(self, group: _Group, line: Line, size: int) -> None:
        group.counted_lines += 1
        group.counted_bytes += size
        _, estimates = assess(
            line, group.routes, self.precheck.workflow, budgeted=bool(self.precheck.budgets), ratios=self.ratios
        )
        weight = sum(route.weight for route in group.routes)
        ceiling = 0
        money = 0.0
        for route, costs in zip(group.routes, group.costs, strict=True):
            estimate, share = estimates[route.target], route.weight / weight
            expected = expected_usage(estimate)
            group.input += share * expected.input
            group.output += share * expected.output
            for dimension, cost in enumerate(admission(route.profile, estimate)):
                costs[dimension] += cost
            if (rates := route.billed_at(line.tier)) is not None:
                money += share * rates.cost(expected, media=estimate.media)
                held = route.at_tier(line.tier).rates or rates
                ceiling = max(ceiling, held.ceiling(estimate))
        group.cost += money
        group.ceiling += ceiling
        if self.precheck.workflow.on_invalid == "retry":
            every = (*group.routes, *self.precheck.stronger(line))
            largest = max(estimates.values(), key=lambda each: each.output_ceiling)
            group.further += further_cost.most(self.precheck.workflow.max_answers, every, largest)
        if self.lanes is not None:
            for batch, plan in ((True, group.by_lanes), (False, group.without_batch)):
                lane, routes = self.lanes.cheaper(line, group.routes, batch=batch)
                plan.add(lane, _cheaper_cost(lane, routes, estimates) if lane else money)

    def forecast(self) -> Forecast:
        """What all counted lines would take."""
        groups = self.groups.values()
        unpriced = sorted({route.target for group in groups for route in group.routes if route.rates is None})
        seconds, limit = self._slowest()
        targets = sorted({route.target for group in groups for route in group.routes})
        cost = None if unpriced else round(sum(group.cost * group.scale for group in groups))
        return Forecast(
            lines=self.agents + self.copies + sum(group.lines for group in groups),
            agents=self.agents,
            copies=self.copies,
            input=round(sum(group.input * group.scale for group in groups)),
            output=round(sum(group.output * group.scale for group in groups)),
            cost=cost,
            ceiling=None if unpriced else round(sum(group.ceiling * group.scale for group in groups)),
            further=None if unpriced else round(sum(group.further * group.scale for group in groups)),
            seconds=seconds,
            limit=limit,
            targets=tuple(targets[:MAX_TARGETS]),
            unpriced=tuple(unpriced),
            lanes=self._by_lanes(cost, seconds),
        )

    def _by_lanes(self, cost: int | None, seconds: float) -> LaneForecast | None:
        """The forecast by lanes; None if only live calls are allowed."""
        if self.lanes is None or self.lanes.lanes == ("live",):
            return None
        groups = [group for group in self.groups.values() if group.counted_lines]
        parts = [(group.lines / group.counted_lines, group.scale) for group in groups]
        return self.lanes.forecast(
            sum((group.by_lanes.scaled(*part) for group, part in zip(groups, parts, strict=True)), Carried()),
            sum((group.without_batch.scaled(*part) for group, part in zip(groups, parts, strict=True)), Carried()),
            total=self.agents + sum(group.lines for group in groups),
            live_cost=cost,
            seconds=seconds,
        )

    def _slowest(self) -> tuple[float, str]:
        """The seconds and the name of the limit that all lines take longest to pass."""
        loads: dict[tuple[str, str], float] = defaultdict(float)
        quotas: dict[str, Quota] = {}
        for group in self.groups.values():
            for route, share, costs in zip(group.routes, group.shares(), group.costs, strict=True):
                for bucket, quota in route.buckets:
                    quotas[bucket] = quota
                    for position, dimension in enumerate(PERIODS):
                        loads[bucket, dimension] += share * costs[position] * group.scale
        slowest, limit = 0.0, ""
        for (bucket, dimension), load in loads.items():
            rate = _rate(quotas[bucket], dimension)
            if rate and (seconds := load / rate - _at_once(quotas[bucket], dimension)) > slowest:
                most = getattr(quotas[bucket], dimension)
                slowest, limit = seconds, f"{most:,} {DIMENSIONS[dimension]} at {subject(bucket)}"
        return slowest, limit


def _cheaper_cost(lane: str, routes: Sequence[Route], estimates: Mapping[str, Estimate]) -> float:
    """n$ of a line by the routes of a cheaper lane, live at those without it."""
    weight, cost = sum(route.weight for route in routes), 0.0
    for route in routes:
        estimate = estimates[route.target]
        if (rates := route.tiers.get(lane) or route.rates) is not None:
            cost += route.weight / weight * rates.cost(expected_usage(estimate), media=estimate.media)
    return cost


def expected_usage(estimate: Estimate) -> Usage:
    """The tokens that a call will probably use."""
    output = UNKNOWN_OUTPUT if estimate.output is None else estimate.output
    return Usage(estimate.input, output=min(output, estimate.output_ceiling))


def record_fields(forecast: Forecast) -> dict[str, Any]:
    """The fields of a batch's record for a forecast; only its copies if it calls agents, whose calls are unknown."""
    found: dict[str, Any] = {"copies": forecast.copies}
    if forecast.agents:
        return found
    return found | {
        "models": " ".join(forecast.targets),
        "expected_cost": (forecast.cost if forecast.lanes is None else forecast.lanes.cost) or 0,
        "expected_input": forecast.input,
        "expected_output": forecast.output,
        "expected_seconds": forecast.seconds,
        "expected_lane_seconds": forecast.lanes.nine_tenths if forecast.lanes is not None else 0.0,
    }


def estimate_errors(batch: Batch) -> dict[str, float]:
    """The relative error of each estimate of a batch that has run; positive if the estimate was too high."""
    pairs = {
        "input_tokens": (batch.expected_input, batch.input_tokens),
        "output_tokens": (batch.expected_output, batch.output_tokens),
        "cost": (batch.expected_cost, batch.cost),
        "seconds": (batch.expected_lane_seconds if batch.lanes else batch.expected_seconds, batch.ended - batch.began),
    }
    return {name: guess / truth - 1 for name, (guess, truth) in pairs.items() if guess and truth > 0}


def _rate(quota: Quota, dimension: str) -> float:
    """Units per second that a limit allows, 0 if there is no limit."""
    limit = getattr(quota, dimension)
    return limit * quota.least / PERIODS[dimension] if limit else 0.0


def _at_once(quota: Quota, dimension: str) -> float:
    """Seconds of the rate that may be used at once: a quota per day may be used at any pace."""
    if PERIODS[dimension] > PERIODS["rpm"]:
        return float(PERIODS[dimension])
    return 1.0 if quota.burst == "auto" else float(quota.burst)
