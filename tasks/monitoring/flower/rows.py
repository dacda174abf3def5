"""What the pages show, made of an overview: every number in the words and units that people read it in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from limits.snapshot import BucketState, BudgetState, DimensionState
from tasks.batches.batch import Batch
from tasks.jobs.reasons import DIMENSIONS, budget, subject
from tasks.monitoring.blockers import Holdups, Wait, spent
from tasks.monitoring.costs import Entry, Spent
from tasks.monitoring.flower.watch import View
from tasks.monitoring.snapshot import Overview
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

_MINUTE = 60
_MICRO = 1_000_000

#: From this part of a budget on, its bar warns.
_NEARLY: Final = 0.9


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar in parts of the whole: `done` in the bar's own colour, then `more` in a second one."""

    done: float
    more: float = 0.0
    kind: str = "primary"
    more_kind: str = "danger"
    words: str = ""


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
    waits: Wait


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
    waits: Wait


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One bucket of a provider: a model with one of its keys, or the whole account."""

    name: str
    state: str
    badge: str
    why: str
    bars: list[tuple[str, Bar]]
    in_flight: str
    calls: str
    throttled: str


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """One window of a budget."""

    name: str
    window: str
    bar: Bar
    resets: str


@dataclass(frozen=True, slots=True)
class Cards:
    """The four figures at a page's head: label, value, and the kind of Flower's card."""

    figures: list[tuple[str, str, str]] = field(default_factory=list)


def batch_rows(view: View, workers: int | None) -> list[BatchRow]:
    """The batches that are not over, then the newest that are."""
    holdups = Holdups(view.overview, workers)
    limits = {state.subject: state for state in view.overview.limits.budgets}
    return [_batch(view, batch, holdups, limits) for batch in view.overview.batches]


def _batch(view: View, batch: Batch, holdups: Holdups, limits: Mapping[str, BudgetState]) -> BatchRow:
    pace = view.paces.get(batch.id)
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
        waits=waits(view, batch, holdups),
    )


def waits(view: View, batch: Batch, holdups: Holdups) -> Wait:
    """What a batch waits for: as the state of its limits says, else as the workflow's jobs were last told."""
    if batch.over:
        return Wait()
    found = holdups.of_batch(batch)
    told = view.told.get(batch.workflow, "")
    return Wait(told, kind="told") if told and found.kind in {"", "delayed"} else found


def workflow_rows(view: View, settings: Settings, workers: int | None) -> list[WorkflowRow]:
    """Every workflow that has work, money or a table of its own; those with work come first."""
    overview = view.overview
    live: dict[str, list[Batch]] = {}
    for batch in overview.live:
        live.setdefault(batch.workflow, []).append(batch)
    money_today = spent_by_workflow(overview.today)
    names = {*live, *(overview.queues or ()), *settings.workflows, *money_today}
    limits = {state.subject: state for state in overview.limits.budgets}
    holdups = Holdups(overview, workers)
    rows = []
    for name in sorted(names, key=lambda name: (name not in live, -total(overview.depth(name)), name)):
        batches = live.get(name, [])
        paces = [pace for batch in batches if (pace := view.paces.get(batch.id)) is not None]
        left = sum(batch.total - batch.done for batch in batches)
        state = limits.get(f"workflow/{name}")
        told = (wait for batch in batches if (wait := waits(view, batch, holdups)).words)
        rows.append(
            WorkflowRow(
                name=name,
                urgent=settings.workflow(name).priority == "urgent",
                depth=overview.depth(name),
                batches=len(batches),
                rate=rate(sum(paces) if paces else None) if batches else "",
                eta=eta(left, sum(paces) if paces else None) if batches else "",
                spent=dollars(money_today.get(name, 0)),
                budget=money(state) if state else None,
                waits=next(told, Wait()) if batches else holdups.of_workflow(name, overview.depth(name)),
            )
        )
    return rows


def total(depth: Depth | None) -> int:
    """Everything in a queue; 0 where that cannot be told."""
    return depth.total if depth else 0


def workflow_cards(view: View, workers: int | None) -> Cards:
    """Jobs left, jobs a minute, workers, money of today."""
    live = view.overview.live
    paces = [pace for batch in live if (pace := view.paces.get(batch.id)) is not None]
    holdups = Holdups(view.overview, workers)
    held_up = sum(waits(view, batch, holdups).held_up for batch in live)
    return Cards(
        [
            ("Jobs left", f"{sum(batch.total - batch.done for batch in live):,}", ""),
            ("Jobs a minute", rate(sum(paces)) if paces else "—", "active"),
            ("Batches held up", f"{held_up:,} of {len(live):,}", "danger" if held_up else "success"),
            ("Spent today (UTC)", dollars(sum(spent_by_workflow(view.overview.today).values())), "success"),
        ]
    )


def model_rows(overview: Overview) -> list[ModelRow]:
    """Every bucket, the accounts' own first, with the circuit and latch that stand before it."""
    circuits = {state.circuit: state for state in overview.limits.circuits}
    today = spent_by_target(overview.today)
    rows = []
    for bucket in overview.limits.buckets:
        provider, key, *rest = bucket.bucket.split("/", 2)
        target = f"{provider}/{rest[0]}" if rest else provider
        state, badge, why = bucket_state(overview, bucket, circuits.get(target), f"{provider}/{key}")
        first = key == "0"
        rows.append(
            ModelRow(
                name=subject(bucket.bucket) + ("" if rest else " (account)"),
                state=state,
                badge=badge,
                why=why,
                bars=[(DIMENSIONS.get(each.name, each.name), dimension_bar(each)) for each in bucket.dimensions],
                in_flight=f"{bucket.in_flight:,}" + (f" of {bucket.concurrency:,}" if bucket.concurrency else ""),
                calls=f"{today.get(target, Spent()).calls:,}" if rest and first else "",
                throttled=f"{today.get(target, Spent()).throttled:,}" if rest and first else "",
            )
        )
    return rows


def bucket_state(overview: Overview, bucket: BucketState, circuit: object, account: str) -> tuple[str, str, str]:
    """The first thing that stands before a bucket: its name, badge and reason."""
    now = overview.limits.now
    if reason := overview.limits.blocked(account, bucket.bucket.removeprefix(f"{account}/")):
        return "blocked", "danger", f"{reason} (overnight limits --clear {account.partition('/')[0]})"
    state, until = getattr(circuit, "state", "closed"), getattr(circuit, "until", 0)
    if state == "open":
        by_hand = getattr(circuit, "by_hand", False)
        return (
            "circuit open",
            "danger",
            "opened by hand" if by_hand else f"tried again in {duration((until - now) / _MICRO)}",
        )
    if bucket.paused_until > now:
        return "paused", "warning", f"429: left alone for {duration((bucket.paused_until - now) / _MICRO)} more"
    if state == "half-open":
        return "probing", "warning", "one call is out to see whether it is up again"
    return "up", "success", ""


def limit_cards(overview: Overview) -> Cards:
    """What stands still."""
    limits = overview.limits
    paused = sum(bucket.paused_until > limits.now for bucket in limits.buckets)
    shut = sum(circuit.state != "closed" for circuit in limits.circuits)
    full = sum(spent(state) for state in limits.budgets)
    return Cards(
        [
            ("Calls in flight", f"{limits.open_reservations:,}", "active"),
            ("Paused by a 429", f"{paused:,}", "danger" if paused else "success"),
            ("Circuits not closed", f"{shut:,}", "danger" if shut else "success"),
            (
                "Accounts blocked · budgets spent",
                f"{len(limits.latches):,} · {full:,}",
                "danger" if limits.latches or full else "success",
            ),
        ]
    )


def budget_rows(overview: Overview) -> list[BudgetRow]:
    """Every budget's current window."""
    return [
        BudgetRow(
            name=budget(state.subject).removeprefix("the ").capitalize()
            if state.subject == "all"
            else budget(state.subject).removeprefix("the budget of "),
            window=state.window,
            bar=money(state),
            resets=f"in {duration(state.resets / _MICRO - overview.at)}" if state.resets else "never",
        )
        for state in overview.limits.budgets
    ]


def dimension_bar(state: DimensionState) -> Bar:
    """How much of a dimension is in use right now; a limit that headers have told is lower than the configured."""
    room = state.rate * state.burst
    used = min(1.0, max(0.0, 1 - state.available / room)) if room else 0.0
    kind = "danger" if used >= 1 else "warning" if used >= _NEARLY else "primary"
    return Bar(used, kind=kind, words=f"{used:.0%} of {state.limit:,}")


def money(state: BudgetState) -> Bar:
    """A budget's bar: what is spent, then what calls in flight hold."""
    limit = max(state.limit, 1)
    used = state.spent / limit
    kind = "danger" if spent(state) else "warning" if used >= _NEARLY else "success"
    held = f" · {dollars(state.held)} held" if state.held else ""
    return Bar(
        min(1.0, used),
        min(state.held / limit, max(0.0, 1 - used)),
        kind=kind,
        more_kind="info",
        words=f"{dollars(state.spent)} of {dollars(state.limit)}{held}",
    )


def spent_by_workflow(today: Iterable[Entry]) -> dict[str, int]:
    """The n$ that were spent, results or none."""
    found: dict[str, int] = {}
    for entry in today:
        found[entry.workflow] = found.get(entry.workflow, 0) + entry.spent.total
    return found


def spent_by_target(today: Iterable[Entry]) -> dict[str, Spent]:
    """Calls and what they came to, by `provider/model`."""
    found: dict[str, Spent] = {}
    for entry in today:
        found[entry.target] = found.get(entry.target, Spent()) + entry.spent
    return found


def average(batch: Batch) -> float | None:
    """The pace of a batch from its beginning to its end, in jobs a second."""
    seconds = batch.ended - batch.created
    return batch.done / seconds if batch.ended and seconds > 0 else None


def rate(a_second: float | None) -> str:
    """A pace in jobs a minute."""
    if a_second is None:
        return "—"
    a_minute = a_second * _MINUTE
    return f"{a_minute:,.0f}" if a_minute >= 10 or not a_minute else f"{a_minute:.1f}"  # noqa: PLR2004 - two digits


def eta(left: int, a_second: float | None) -> str:
    """When so many jobs are done at this pace."""
    if not left:
        return "now"
    return duration(left / a_second) if a_second else "—"


def ended(batch: Batch) -> str:
    """How long a batch took, that is over."""
    return f"took {duration(batch.ended - batch.created)}" if batch.ended else "—"


def clock(seconds: float) -> str:
    """A moment of today, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S UTC")
