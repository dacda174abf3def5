"""What a batch waits for, in a few words: read from the limits as they are now, since only they can tell."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

from limits.overview import BucketState, BudgetState, Snapshot, snapshot
from tasks.batch import Batch
from tasks.store import Store
from workers import budgets, prices
from workers.routing import NoRoute, Routes, Way
from workers.settings import Settings

#: A tick that is overdue by so many seconds says that nobody takes it.
OVERDUE = 5.0

_MICRO = 1_000_000


def waits_for(settings: Settings, store: Store, batch: Batch) -> list[str]:
    """What keeps the batch's jobs from going out now; empty where nothing does."""
    if batch.over:
        return []
    seconds, micros = store.client.time()
    now = seconds + micros / _MICRO
    due = store.client.zscore(store.keys.ticks, f"collect:{batch.id}")
    if due is not None and now - due / _MICRO > OVERDUE:
        return ["a worker: none is running (overnight worker)"]
    if batch.status != "in_progress":
        flight = len(store.leased(batch.id))
        return [f"{flight} call{'s' if flight != 1 else ''} in flight"] if flight else []
    routes = Routes(settings, prices.decode(cast("dict[Any, Any]", store.client.hgetall(store.keys.prices))))
    models = ways_of_models(routes, batch)
    every = [way for ways in models for way in ways]
    over = budgets.windows(settings, batch.workflow, batch.id, now)
    state = store.server.run(
        snapshot(
            store.keys,
            buckets=sorted({bucket for way in every for bucket in way.buckets}, key=lambda bucket: bucket[0]),
            circuits=sorted({way.circuit for way in every}),
            accounts=sorted({way.account for way in every}),
            budgets=over,
        )
    )
    found = [_budget(settings, batch, budget) for budget in state.budgets if _spent(batch, budget)]
    for ways in models:
        reasons = [_closed(way, state, now) for way in ways]
        if all(reasons):
            found += [reason for reason in reasons if reason and reason not in found]
    return found


def ways_of_models(routes: Routes, batch: Batch) -> list[Sequence[Way]]:
    """The ways of each of its models; a model that the configuration no longer knows has none."""
    found: list[Sequence[Way]] = []
    for model, urls in batch.urls_of_models().items():
        for url in urls:
            try:
                found.append(routes.ways(model, url))
            except NoRoute:
                continue
    return found


def _closed(way: Way, state: Snapshot, now: float) -> str | None:
    """Why no call can go this way now, None where one can."""
    if (reason := state.latches.get(way.account)) is not None:
        provider = way.account.partition("/")[0]
        return f"account {way.account} is blocked ({reason}): mend it, then overnight limits --clear {provider}"
    for circuit in state.circuits:
        if circuit.circuit == way.circuit and circuit.state == "open":
            return f"circuit open: {way.circuit}, next try in {_seconds(circuit.until, now)}"
    for bucket in state.buckets:
        if any(bucket.bucket == name for name, _ in way.buckets) and (reason := _full(bucket, way, now)):
            return reason
    return None


def _full(bucket: BucketState, way: Way, now: float) -> str | None:
    if bucket.paused_until:
        return f"{way.target}, which asked to wait {_seconds(bucket.paused_until, now)} more (429)"
    if bucket.concurrency > 0 and bucket.in_flight >= bucket.concurrency:
        return f"the {bucket.concurrency} calls in flight that {way.target} allows"
    for dimension in bucket.dimensions:
        if dimension.available < 1:
            return f"quota of {way.target} ({dimension.limit:,} {dimension.name})"
    return None


def _spent(batch: Batch, budget: BudgetState) -> bool:
    """Whether not even an average job fits into what is left."""
    each = batch.expected_ceiling // max(batch.total, 1)
    return budget.limit - budget.spent - budget.held < max(each, 1)


def _budget(settings: Settings, batch: Batch, budget: BudgetState) -> str:
    whose = "the budget over everything" if budget.subject == "all" else f"the budget of {batch.workflow}"
    if budget.held > budget.spent and budget.held > budget.limit - budget.spent:
        return f"{whose}: all of it is held by calls in flight"
    if not budget.resets:
        return f"{whose}: it is spent, and no new one begins"
    zone = "UTC" if budget.subject == "all" else settings.workflow(batch.workflow).timezone
    turns = datetime.fromtimestamp(budget.resets / _MICRO, ZoneInfo(zone))
    form = "%H:%M" if turns.date() == datetime.now(ZoneInfo(zone)).date() else "%d %b %H:%M"
    return f"{whose} until {turns.strftime(form)} {zone}"


def _seconds(until: int, now: float) -> str:
    left = max(0.0, until / _MICRO - now)
    return f"{left:.0f} s" if left < 600 else f"{left / 60:.0f} min"  # noqa: PLR2004 - ten minutes
