"""The rows of the page of workflows and batches."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from limits.snapshot import BudgetState
from tasks.batches import check_counts
from tasks.batches.batch import Batch
from tasks.monitoring.blockers import Blocker, Blockers
from tasks.monitoring.costs import Entry, Spent, cache_words
from tasks.monitoring.flower import lane_rows
from tasks.monitoring.flower.cells import Bar, Cards, eta, money, rate
from tasks.monitoring.snapshot import SystemSnapshot
from workers.config.settings import Settings
from workers.figures import dollars, duration
from workers.transport.queues import Depth

#: A batch's status -> the background of its badge, one of Bootstrap's.
BADGES: Final = {
    "in_progress": "primary",
    "finalizing": "primary",
    "cancelling": "warning",
    "expiring": "warning",
    "completed": "success",
    "cancelled": "secondary",
    "expired": "danger",
    "failed": "danger",
}


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch's row."""

    id: str
    workflow: str
    name: str
    status: str
    badge: str
    bar: Bar
    rate: str
    eta: str
    cost: str
    budget: "Bar | None"
    throttled: str
    waits: Blocker
    lanes: str = ""
    cache: str = ""
    checks: str = ""


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    """A workflow's row. `batches`: how many of its batches are not over. `calls`: its live calls, now and today."""

    name: str
    urgent: bool
    depth: Depth | None
    batches: int
    rate: str
    eta: str
    calls: str
    spent: str
    budget: Bar | None
    waits: Blocker


def batch_rows(system: SystemSnapshot, workers: int | None) -> list[BatchRow]:
    """A row for each batch: those that are not over, then the newest others."""
    blockers = Blockers(system, workers)
    limits = {state.subject: state for state in system.limits.budgets}
    caches = cached_today(system.today)
    rows = [_batch(system, batch, blockers, limits) for batch in system.batches]
    return [replace(row, cache=caches.get(row.id, "")) for row in rows]


def _counts(batch: Batch) -> str:
    parts = ((batch.failed, "failed"), (batch.copies, "copies"))
    return " · ".join([f"{batch.done:,} of {batch.total:,}", *(f"{count:,} {name}" for count, name in parts if count)])


def _batch(system: SystemSnapshot, batch: Batch, blockers: Blockers, limits: Mapping[str, BudgetState]) -> BatchRow:
    per_second = system.rates.get(batch.id)
    total = max(batch.total, 1)
    own = limits.get(f"workflow/{batch.workflow}/{batch.id}")
    return BatchRow(
        id=batch.id,
        workflow=batch.workflow,
        name=batch.name,
        status=batch.status.replace("_", " "),
        badge="warning" if batch.over and batch.failed else BADGES.get(batch.status, "secondary"),
        bar=Bar(
            batch.completed / total,
            batch.failed / total,
            kind="success" if batch.over else "primary",
            words=_counts(batch),
        ),
        rate=rate(average(batch) if batch.over else per_second),
        eta=ended(batch) if batch.over else eta(batch.total - batch.done, per_second),
        cost=dollars(batch.cost),
        budget=money(own) if own else None,
        throttled=f"{batch.throttled:,}" if batch.throttled else "",
        waits=waits(system, batch, blockers),
        lanes=lane_rows.counts(batch, system.chunks.get(batch.id, ())),
        checks=check_counts.words(batch.check_counts, batch.again_cost),
    )


def cached_today(today: Iterable[Entry]) -> dict[str, str]:
    """By batch: what of its input came from prompt caches today (UTC), and what that has saved."""
    found: dict[str, Spent] = {}
    for entry in today:
        if entry.batch:
            found[entry.batch] = found.get(entry.batch, Spent()) + entry.spent
    return {batch: f"cached today: {words}" for batch, spent in found.items() if (words := cache_words(spent))}


def waits(system: SystemSnapshot, batch: Batch, blockers: Blockers) -> Blocker:
    """What a batch waits for: its blocker, else the reason why its workflow's jobs were snoozed last."""
    if batch.over:
        return Blocker()
    found = blockers.of_batch(batch)
    reason = system.reasons.get(batch.workflow, "")
    return Blocker(reason, kind="told") if reason and found.kind in {"", "delayed"} else found


def workflow_rows(system: SystemSnapshot, settings: Settings, workers: int | None) -> list[WorkflowRow]:
    """A row for each workflow that has work, spent money today, or is configured; those with work first."""
    live: dict[str, list[Batch]] = {}
    for batch in system.live:
        live.setdefault(batch.workflow, []).append(batch)
    money_today = spent_by_workflow(system.today)
    served: Counter[str] = Counter()
    for entry in system.today:
        served[entry.workflow] += entry.spent.server_calls
    names = {*live, *(system.queues or ()), *settings.workflows, *money_today, *system.calls}
    limits = {state.subject: state for state in system.limits.budgets}
    blockers = Blockers(system, workers)
    rows = []
    for name in sorted(names, key=lambda name: (name not in live, -total(system.depth(name)), name)):
        batches = live.get(name, [])
        rates = [each for batch in batches if (each := system.rates.get(batch.id)) is not None]
        left = sum(batch.total - batch.done for batch in batches)
        state = limits.get(f"workflow/{name}")
        blocked = (wait for batch in batches if (wait := waits(system, batch, blockers)).words)
        rows.append(
            WorkflowRow(
                name=name,
                urgent=settings.workflow(name).priority == "urgent",
                depth=system.depth(name),
                batches=len(batches),
                rate=rate(sum(rates) if rates else None) if batches else "",
                eta=eta(left, sum(rates) if rates else None) if batches else "",
                calls=live_calls(system.calls.get(name, 0), served.get(name, 0)),
                spent=dollars(money_today.get(name, 0)),
                budget=money(state) if state else None,
                waits=next(blocked, Blocker()) if batches else blockers.of_workflow(name, system.depth(name)),
            )
        )
    return rows


def live_calls(now: int, today: int) -> str:
    """The live calls of a workflow; '' if it has none today."""
    return f"{now:,} now · {today:,} today" if now or today else ""


def total(depth: Depth | None) -> int:
    """All jobs in a queue; 0 if it is unknown."""
    return depth.total if depth else 0


def workflow_cards(system: SystemSnapshot, workers: int | None) -> Cards:
    """Jobs left, jobs a minute, stalled batches, money spent today."""
    live = system.live
    rates = [each for batch in live if (each := system.rates.get(batch.id)) is not None]
    blockers = Blockers(system, workers)
    stalled = sum(waits(system, batch, blockers).stalled for batch in live)
    return Cards(
        [
            ("Jobs left", f"{sum(batch.total - batch.done for batch in live):,}", ""),
            ("Jobs a minute", rate(sum(rates)) if rates else "—", "active"),
            ("Batches stalled", f"{stalled:,} of {len(live):,}", "danger" if stalled else "success"),
            ("Spent today (UTC)", dollars(sum(spent_by_workflow(system.today).values())), "success"),
        ]
    )


def spent_by_workflow(today: Iterable[Entry]) -> dict[str, int]:
    """n$ by workflow, for results and failures."""
    found: dict[str, int] = {}
    for entry in today:
        found[entry.workflow] = found.get(entry.workflow, 0) + entry.spent.total
    return found


def average(batch: Batch) -> float | None:
    """A finished batch's rate over its whole life, in jobs a second."""
    seconds = batch.ended - batch.created
    return batch.done / seconds if batch.ended and seconds > 0 else None


def ended(batch: Batch) -> str:
    """How long a finished batch took."""
    return f"took {duration(batch.ended - batch.created)}" if batch.ended else "—"
