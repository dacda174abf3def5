"""The metrics of a namespace, read from Redis at each scrape. Any process may serve them, and none can lose them.

Counters come from the ledger, which settlements write. They start over on the first of each month (UTC), which
Prometheus takes for a counter's restart. So a scrape reads two days of the ledger, not four hundred. Presumed money
(calls whose end no worker saw) may still be corrected, so it is a gauge.

`overnight metrics` serves them alone, `overnight flower` serves them under /metrics beside Flower's own. What a single
worker process counts (admissions, latencies) is in worker_metrics.py.
"""

import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, get_args

import redis
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from limits.budget import NANO
from limits.encoding import SECOND
from limits.errors import LimitsError
from limits.snapshot import Snapshot
from tasks.batches.batch import LIVE, Batch
from tasks.batches.check_counts import RESULTS, by_result
from tasks.batches.store import Store
from tasks.monitoring.blocker_metrics import blockers
from tasks.monitoring.costs import Entry, Spent, entries
from tasks.monitoring.labels import OTHER, Labels
from tasks.monitoring.lane_metrics import lanes, saved
from tasks.monitoring.limits import accounts, targets
from tasks.monitoring.snapshot import DAY, SystemSnapshot, read
from tasks.schedules.runs import Record, Schedules, State, calendar
from workers.config.settings import Settings
from workers.transport.queues import Depth

log = logging.getLogger(__name__)

CIRCUIT_STATES: Final = ("closed", "open", "half-open")

#: Ended batches that have metrics, so that a dashboard shows how they ended.
ENDED: Final = 10

_BUCKET: Final = ("provider", "key", "model")
_ROW: Final = ("workflow", "provider", "model")

Row = tuple[str, str, str]
"""Workflow, provider, model."""

Ledger = Mapping[Row, Spent]


class Exporter(Collector):
    """The collector of a namespace. If Redis does not answer, it yields only `overnight_up`, which is 0."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.month = Month(store)
        self.workflows = Labels(settings.workflows)
        self.rows = Labels([(name, *target) for name in settings.workflows for target in targets(settings)])

    def describe(self) -> list[Metric]:
        """Return nothing: registering a collector must not read Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("overnight_up", "1 if Redis answered")
        try:
            system = read(self.store, self.settings, ended=ENDED)
            month = self.month.read(system)
            kept = Schedules(self.store)
            records = {name: kept.record(name, schedule) for name, schedule in self.settings.schedules.items()}
            led = kept.beat_leads()
        except (redis.RedisError, LimitsError) as exc:
            log.warning("Redis cannot be read, so there are no metrics: %s", exc)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from queues(system, self.workflows)
        yield from batches(system)
        yield from blockers(system, self.workflows)
        yield from quotas(system.limits)
        yield from circuits(system.limits, self.settings)
        yield from money(system.limits)
        rows = named(month, self.rows)
        yield from counters(rows)
        yield from lanes(system)
        yield from saved(rows)
        if records:
            yield from schedules(records, self.settings, system.at, led=led)


class Month:
    """The ledger since the first of the month. Days before yesterday no longer change, and are read once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.closed: dict[int, tuple[Entry, ...]] = {}

    def read(self, system: SystemSnapshot) -> Ledger:
        """The sums of this month; `system` contains today's rows."""
        today = int(system.at) // DAY
        days = [today - back for back in range(datetime.fromtimestamp(system.at, UTC).day)]
        self.closed = {day: self.closed.get(day) or self._day(day) for day in days[2:]}
        sums: dict[Row, Spent] = {}
        for found in (system.today, *(self._day(day) for day in days[1:2]), *self.closed.values()):
            for entry in found:
                row = (entry.workflow, entry.provider, entry.model)
                sums[row] = sums.get(row, Spent()) + entry.spent
        return sums

    def _day(self, day: int) -> tuple[Entry, ...]:
        return tuple(entries(self.store.server, self.store.keys, [day]))


def queues(system: SystemSnapshot, labels: Labels) -> Iterator[Metric]:
    """The number of jobs in each workflow's queue."""
    jobs = GaugeMetricFamily("overnight_queue_jobs", "Jobs in a workflow's queue", labels=("workflow", "state"))
    held = system.queues or {}
    sums: dict[str, Depth] = {}
    for name in sorted(held, key=lambda each: -held[each].total):
        workflow = labels.of(name)
        sums[workflow] = sums.get(workflow, Depth(0, 0, 0)) + held[name]
    for workflow, depth in sums.items():
        jobs.add_metric([workflow, "ready"], depth.ready)
        jobs.add_metric([workflow, "in_flight"], depth.in_flight)
        jobs.add_metric([workflow, "delayed"], depth.delayed)
    yield jobs


def batches(system: SystemSnapshot) -> Iterator[Metric]:
    """The progress of live batches and of the last few that ended."""
    labels = ("workflow", "batch")
    jobs = GaugeMetricFamily("overnight_batch_jobs", "Jobs of a batch", labels=(*labels, "state"))
    spent = GaugeMetricFamily("overnight_batch_spent_dollars", "What a batch has cost so far", labels=labels)
    deadline = GaugeMetricFamily(
        "overnight_batch_deadline_timestamp_seconds", "When a batch that is not over expires", labels=labels
    )
    trouble = GaugeMetricFamily("overnight_batch_trouble", "1 if trouble with its files stops a batch", labels=labels)
    live = GaugeMetricFamily("overnight_batches", "Batches that are not over", labels=("workflow", "status"))
    checks = GaugeMetricFamily(
        "overnight_batch_checked_answers", "Answers of a batch that are not valid", labels=(*labels, "result")
    )
    counts: dict[tuple[str, str], int] = {}
    for batch in system.batches:
        _batch(batch, jobs, spent, checks)
        if not batch.over:
            names = [batch.workflow, batch.id]
            trouble.add_metric(names, int(bool(batch.trouble)))
            if batch.deadline:
                deadline.add_metric(names, batch.deadline)
            counts[batch.workflow, batch.status] = counts.get((batch.workflow, batch.status), 0) + 1
    for workflow in {batch.workflow for batch in system.live}:
        for status in sorted(LIVE):
            live.add_metric([workflow, status], counts.get((workflow, status), 0))
    yield from (jobs, spent, deadline, trouble, checks, live)


def _batch(batch: Batch, jobs: GaugeMetricFamily, spent: GaugeMetricFamily, checks: GaugeMetricFamily) -> None:
    names = [batch.workflow, batch.id]
    jobs.add_metric([*names, "completed"], batch.completed)
    jobs.add_metric([*names, "failed"], batch.failed)
    jobs.add_metric([*names, "left"], batch.total - batch.done if not batch.over else 0)
    spent.add_metric(names, batch.cost / NANO)
    found = by_result(batch.check_counts)
    for result in RESULTS:
        checks.add_metric([*names, result], found.get(result, 0))


def quotas(limits: Snapshot) -> Iterator[Metric]:
    """How much of each quota is in use. `model` is empty for a quota that a whole account shares."""
    dimensions = (*_BUCKET, "dimension")
    limit = GaugeMetricFamily("overnight_quota_limit", "A quota in force, in its own unit", labels=dimensions)
    used = GaugeMetricFamily("overnight_quota_used_ratio", "The fraction of a quota that is in use", labels=dimensions)
    burst = GaugeMetricFamily(
        "overnight_quota_burst_seconds", "Seconds of a quota's rate that may go at once", labels=dimensions
    )
    flight = GaugeMetricFamily("overnight_calls_in_flight", "Reserved calls", labels=_BUCKET)
    most = GaugeMetricFamily("overnight_calls_in_flight_limit", "Limit of reserved calls; 0: none", labels=_BUCKET)
    paused = GaugeMetricFamily("overnight_paused_seconds", "Seconds until the pause after a 429 ends", labels=_BUCKET)
    for state in limits.buckets:
        provider, key, *rest = state.bucket.split("/", 2)
        names = [provider, key, rest[0] if rest else ""]
        flight.add_metric(names, state.in_flight)
        most.add_metric(names, state.concurrency)
        paused.add_metric(names, max(0.0, (state.paused_until - limits.now) / SECOND))
        for each in state.dimensions:
            room = each.rate * each.burst
            limit.add_metric([*names, each.name], each.limit)
            used.add_metric([*names, each.name], min(1.0, max(0.0, 1 - each.available / room)) if room else 0.0)
            burst.add_metric([*names, each.name], each.burst)
    yield from (limit, used, burst, flight, most, paused)


def circuits(limits: Snapshot, settings: Settings) -> Iterator[Metric]:
    """The state of each circuit, and the blocked accounts."""
    state = GaugeMetricFamily(
        "overnight_circuit_state", "1 for the state of a circuit", labels=("provider", "model", "state")
    )
    for circuit in limits.circuits:
        provider, _, model = circuit.circuit.partition("/")
        for name in CIRCUIT_STATES:
            state.add_metric([provider, model, name], int(circuit.state == name))
    blocked = GaugeMetricFamily(
        "overnight_account_blocked",
        "1 if the account or one of its models is blocked",
        labels=("provider", "key"),
    )
    for account in accounts(settings):
        blocked.add_metric(
            account.rsplit("/", 1), int(any(f"{name}/".startswith(f"{account}/") for name in limits.blocked_accounts))
        )
    yield from (state, blocked)


def money(limits: Snapshot) -> Iterator[Metric]:
    """The current window of each budget."""
    limit = GaugeMetricFamily("overnight_budget_limit_dollars", "What a budget allows", labels=("budget",))
    spent = GaugeMetricFamily("overnight_budget_spent_dollars", "What its window has spent", labels=("budget",))
    held = GaugeMetricFamily("overnight_budget_held_dollars", "What calls in flight may still cost", labels=("budget",))
    for state in limits.budgets:
        limit.add_metric([state.subject], state.limit / NANO)
        spent.add_metric([state.subject], state.spent / NANO)
        held.add_metric([state.subject], state.held / NANO)
    yield from (limit, spent, held)


def named(month: Ledger, labels: Labels) -> Ledger:
    """The ledger by rows that have a series of their own, the most called ones; all others summed by provider."""
    sums: dict[Row, Spent] = {}
    for row in sorted(month, key=lambda each: -month[each].calls):
        label = row if labels.has(row) else (OTHER, row[1], OTHER)
        sums[label] = sums.get(label, Spent()) + month[row]
    return sums


def counters(month: Ledger) -> Iterator[Metric]:
    """Calls, tokens and money since the first of the month."""
    calls = CounterMetricFamily("overnight_calls", "Calls that were sent, including 429s and failures", labels=_ROW)
    throttled = CounterMetricFamily("overnight_throttled_calls", "Calls that were answered with a 429", labels=_ROW)
    failed = CounterMetricFamily("overnight_failed_calls", "Calls that failed, except 429s", labels=_ROW)
    tokens = CounterMetricFamily("overnight_tokens", "Tokens as providers reported them", labels=(*_ROW, "type"))
    spent = CounterMetricFamily(
        "overnight_spent_dollars", "Money settled, for results and for failures", labels=(*_ROW, "outcome")
    )
    presumed = GaugeMetricFamily(
        "overnight_presumed_dollars", "Money presumed spent on calls whose end no worker saw", labels=_ROW
    )
    for row, sums in month.items():
        calls.add_metric(row, sums.calls)
        throttled.add_metric(row, sums.throttled)
        failed.add_metric(row, sums.failed_calls)
        tokens.add_metric([*row, "input"], sums.input_tokens)
        tokens.add_metric([*row, "output"], sums.output_tokens)
        spent.add_metric([*row, "result"], sums.cost / NANO)
        spent.add_metric([*row, "failure"], sums.failed_cost / NANO)
        presumed.add_metric(row, sums.presumed_cost / NANO)
    yield from (calls, throttled, failed, tokens, spent, presumed)


def schedules(records: Mapping[str, Record], settings: Settings, at: float, *, led: bool) -> Iterator[Metric]:
    """The state of each schedule's last run, when the next one is due, and whether a beat is running."""
    names = ("schedule", "workflow")
    state = GaugeMetricFamily(
        "overnight_schedule_night_state", "1 for the state of the schedule's last run", labels=(*names, "state")
    )
    ran = GaugeMetricFamily(
        "overnight_schedule_ran_timestamp_seconds", "When the last run that became a batch was due", labels=names
    )
    due = GaugeMetricFamily("overnight_schedule_next_timestamp_seconds", "When the next run is due", labels=names)
    for name, record in records.items():
        schedule = settings.schedules[name]
        labels = [name, schedule.workflow]
        if record.latest:
            for each in get_args(State):
                state.add_metric([*labels, each], int(record.latest.state == each))
        due_at = [run.due for run in record.runs.values() if run.state == "ran"]
        if due_at:
            ran.add_metric(labels, max(due_at))
        due.add_metric(labels, calendar(schedule).next(datetime.fromtimestamp(at, UTC)).timestamp())
    beat = GaugeMetricFamily("overnight_beat_leads", "1 if a beat is running that starts scheduled runs")
    beat.add_metric([], int(led))
    yield from (state, ran, due, beat)
