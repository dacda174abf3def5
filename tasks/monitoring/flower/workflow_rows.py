"""The rows of the page of workflows and batches."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from limits.snapshot import BudgetState
from tasks.batches.batch import Batch
from tasks.monitoring.blockers import Blocker, Blockers
from tasks.monitoring.costs import Entry
from tasks.monitoring.flower.cells import Bar, Cards, eta, money, rate
from tasks.monitoring.snapshot import SystemSnapshot
from workers.config.settings import Settings
from workers.figures import dollars, duration
from workers.transport.queues import Depth

#: How a batch's status looks: a background of Bootstrap's, as Flower's own badges have one.
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
    """One batch."""

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


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    """One workflow: its queue, pace and money. `batches` are those that are not over."""

    name: str
    urgent: bool
    depth: Depth | None
    batches: int
    rate: str
    eta: str
    spent: str
    budget: Bar | None
    waits: Blocker


def batch_rows(system: SystemSnapshot, workers: int | None) -> list[BatchRow]:
    """The batches that are not over, then the newest that are."""
    blockers = Blockers(system, workers)
    limits = {state.subject: state for state in system.limits.budgets}
    return [_batch(system, batch, blockers, limits) for batch in system.batches]


def _batch(system: SystemSnapshot, batch: Batch, blockers: Blockers, limits: Mapping[str, BudgetState]) -> BatchRow:
    pace = system.rates.get(batch.id)
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
            words=f"{batch.done:,} of {batch.total:,}" + (f" · {batch.failed:,} failed" if batch.failed else ""),
        ),
        rate=rate(average(batch) if batch.over else pace),
        eta=ended(batch) if batch.over else eta(batch.total - batch.done, pace),
        cost=dollars(batch.cost),
        budget=money(own) if own else None,
        throttled=f"{batch.throttled:,}" if batch.throttled else "",
        waits=waits(system, batch, blockers),
    )


def waits(system: SystemSnapshot, batch: Batch, blockers: Blockers) -> Blocker:
    """What a batch waits for: as the state of its limits says, else as the workflow's jobs were last told."""
    if batch.over:
        return Blocker()
    found = blockers.of_batch(batch)
    told = system.reasons.get(batch.workflow, "")
    return Blocker(told, kind="told") if told and found.kind in {"", "delayed"} else found


def workflow_rows(system: SystemSnapshot, settings: Settings, workers: int | None) -> list[WorkflowRow]:
    """Every workflow that has work, money or a table of its own; those with work come first."""
    live: dict[str, list[Batch]] = {}
    for batch in system.live:
        live.setdefault(batch.workflow, []).append(batch)
    money_today = spent_by_workflow(system.today)
    names = {*live, *(system.queues or ()), *settings.workflows, *money_today}
    limits = {state.subject: state for state in system.limits.budgets}
    blockers = Blockers(system, workers)
    rows = []
    for name in sorted(names, key=lambda name: (name not in live, -total(system.depth(name)), name)):
        batches = live.get(name, [])
        paces = [pace for batch in batches if (pace := system.rates.get(batch.id)) is not None]
        left = sum(batch.total - batch.done for batch in batches)
        state = limits.get(f"workflow/{name}")
        told = (wait for batch in batches if (wait := waits(system, batch, blockers)).words)
        rows.append(
            WorkflowRow(
                name=name,
                urgent=settings.workflow(name).priority == "urgent",
                depth=system.depth(name),
                batches=len(batches),
                rate=rate(sum(paces) if paces else None) if batches else "",
                eta=eta(left, sum(paces) if paces else None) if batches else "",
                spent=dollars(money_today.get(name, 0)),
                budget=money(state) if state else None,
                waits=next(told, Blocker()) if batches else blockers.of_workflow(name, system.depth(name)),
            )
        )
    return rows


def total(depth: Depth | None) -> int:
    """Everything in a queue; 0 where that cannot be told."""
    return depth.total if depth else 0


def workflow_cards(system: SystemSnapshot, workers: int | None) -> Cards:
    """Jobs left, jobs a minute, workers, money of today."""
    live = system.live
    paces = [pace for batch in live if (pace := system.rates.get(batch.id)) is not None]
    blockers = Blockers(system, workers)
    stalled = sum(waits(system, batch, blockers).stalled for batch in live)
    return Cards(
        [
            ("Jobs left", f"{sum(batch.total - batch.done for batch in live):,}", ""),
            ("Jobs a minute", rate(sum(paces)) if paces else "—", "active"),
            ("Batches held up", f"{stalled:,} of {len(live):,}", "danger" if stalled else "success"),
            ("Spent today (UTC)", dollars(sum(spent_by_workflow(system.today).values())), "success"),
        ]
    )


def spent_by_workflow(today: Iterable[Entry]) -> dict[str, int]:
    """The n$ that were spent, results or none."""
    found: dict[str, int] = {}
    for entry in today:
        found[entry.workflow] = found.get(entry.workflow, 0) + entry.spent.total
    return found


def average(batch: Batch) -> float | None:
    """The pace of a batch from its beginning to its end, in jobs a second."""
    seconds = batch.ended - batch.created
    return batch.done / seconds if batch.ended and seconds > 0 else None


def ended(batch: Batch) -> str:
    """How long a batch took, that is over."""
    return f"took {duration(batch.ended - batch.created)}" if batch.ended else "—"
