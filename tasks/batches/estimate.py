"""What a file of jobs would take: tokens, dollars, and the time within the configured limits.

The expected input is counted as the workers count it, with what was learnt of each model from earlier answers; the
expected output is what its answers have had on the average, or the ceiling that a line states where nothing is known
yet. The time is what the slowest of the limits takes; a provider's own pace is not foreseen.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from limits.bucket import PERIODS, Quota
from limits.budget import NANO
from limits.counting import UNKNOWN_OUTPUT, Estimate, Usage, admission
from tasks.batches.batch import Batch
from tasks.batches.precheck import Precheck
from tasks.jobs.attempt import assess
from tasks.jobs.job import Line
from tasks.jobs.reasons import DIMENSIONS, subject
from workers.models.calibration import Ratios
from workers.models.routing import Route

#: Of each model, so many lines are counted, and of those that follow one in so many, for all.
COUNTED, ONE_IN = 2_000, 10

#: Targets whose names a batch's record keeps.
MOST_TARGETS = 50


@dataclass(slots=True)
class _Group:
    """The lines of one model and url: all of them, and the sums over those that were counted."""

    routes: tuple[Route, ...]
    lines: int = 0
    bytes: int = 0
    counted_lines: int = 0
    counted_bytes: int = 0
    input: float = 0.0
    output: float = 0.0
    cost: float = 0.0
    ceiling: int = 0
    costs: list[list[int]] = field(default_factory=list)

    @property
    def scale(self) -> float:
        """By how much the sums are too small."""
        return self.bytes / self.counted_bytes if self.counted_bytes else 0.0

    def capacities(self) -> list[float]:
        """How many jobs a second each route allows by its limits."""
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
        """Which part of the lines would take each route: by what the limits let through, else by weight."""
        capacities = self.capacities()
        free = [
            route.weight if most == float("inf") else 0.0 for route, most in zip(self.routes, capacities, strict=True)
        ]
        parts = free if any(free) else capacities
        return [part / sum(parts) for part in parts]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the jobs of a file are expected to take; money in n$, None where a model has no price.

    `ceiling` is what they cost at the most. `seconds` is what the limits allow, 0 where there are none; `limit` names
    the one that takes longest. `targets` are the models, as `provider/model`, that the jobs may go to. `agents` is how
    many of the lines call agents: which calls those make shows only as they run, and no figure here counts them.
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

    def shown(self) -> dict[str, Any]:
        """As `overnight estimate --json` prints it."""
        return {
            "lines": self.lines,
            "agent_lines": self.agents,
            "input_tokens": self.input,
            "output_tokens": self.output,
            "cost_usd": None if self.cost is None else self.cost / NANO,
            "ceiling_usd": None if self.ceiling is None else self.ceiling / NANO,
            "seconds": round(self.seconds, 1),
            "limit": self.limit or None,
            "unpriced_models": list(self.unpriced),
        }


class Tally:
    """Counts lines as they are read."""

    def __init__(self, precheck: Precheck, ratios: Ratios) -> None:
        self.precheck = precheck
        self.ratios = ratios
        self.groups: dict[tuple[str, str], _Group] = {}
        self.agents = 0

    def add(self, line: Line, size: int) -> None:
        """Count a line."""
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
        for route, costs in zip(group.routes, group.costs, strict=True):
            estimate, share = estimates[route.target], route.weight / weight
            expected = expected_usage(estimate)
            group.input += share * expected.input
            group.output += share * expected.output
            for dimension, cost in enumerate(admission(route.profile, estimate)):
                costs[dimension] += cost
            if route.rates is not None:
                group.cost += share * route.rates.cost(expected, media=estimate.media)
                ceiling = max(ceiling, route.rates.ceiling(estimate))
        group.ceiling += ceiling

    def forecast(self) -> Forecast:
        """What all lines so far would take."""
        groups = self.groups.values()
        unpriced = sorted({route.target for group in groups for route in group.routes if route.rates is None})
        seconds, limit = self._slowest()
        targets = sorted({route.target for group in groups for route in group.routes})
        return Forecast(
            lines=self.agents + sum(group.lines for group in groups),
            agents=self.agents,
            input=round(sum(group.input * group.scale for group in groups)),
            output=round(sum(group.output * group.scale for group in groups)),
            cost=None if unpriced else round(sum(group.cost * group.scale for group in groups)),
            ceiling=None if unpriced else round(sum(group.ceiling * group.scale for group in groups)),
            seconds=seconds,
            limit=limit,
            targets=tuple(targets[:MOST_TARGETS]),
            unpriced=tuple(unpriced),
        )

    def _slowest(self) -> tuple[float, str]:
        """The limit that takes longest for all lines, each group's spread over its routes."""
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


def expected_usage(estimate: Estimate) -> Usage:
    """The tokens that a call will probably have."""
    output = UNKNOWN_OUTPUT if estimate.output is None else estimate.output
    return Usage(estimate.input, output=min(output, estimate.output_ceiling))


def fields_of(forecast: Forecast) -> dict[str, Any]:
    """What of a forecast a batch's record keeps: nothing where agents add to it what nobody knows."""
    if forecast.agents:
        return {}
    return {
        "models": " ".join(forecast.targets),
        "expected_cost": forecast.cost or 0,
        "expected_input": forecast.input,
        "expected_output": forecast.output,
        "expected_seconds": forecast.seconds,
    }


def error_of(batch: Batch) -> dict[str, float]:
    """By which part of the truth each expectation was off, of a batch that has run; + is too much."""
    pairs = {
        "input_tokens": (batch.expected_input, batch.input_tokens),
        "output_tokens": (batch.expected_output, batch.output_tokens),
        "cost": (batch.expected_cost, batch.cost),
        "seconds": (batch.expected_seconds, batch.ended - batch.began),
    }
    return {name: guess / truth - 1 for name, (guess, truth) in pairs.items() if guess and truth > 0}


def _rate(quota: Quota, dimension: str) -> float:
    """Units a second that a limit lets through, 0 where there is none."""
    limit = getattr(quota, dimension)
    return limit * quota.least / PERIODS[dimension] if limit else 0.0


def _at_once(quota: Quota, dimension: str) -> float:
    """Seconds of the rate that may go out at once: a day's quota may be used at any pace."""
    if PERIODS[dimension] > PERIODS["rpm"]:
        return float(PERIODS[dimension])
    return 1.0 if quota.burst == "auto" else float(quota.burst)
