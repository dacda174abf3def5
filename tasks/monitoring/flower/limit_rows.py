"""The rows of the page of limits."""

from collections.abc import Iterable
from dataclasses import dataclass

from limits.encoding import SECOND
from limits.snapshot import BucketState
from tasks.jobs.reasons import DIMENSIONS, budget, subject
from tasks.monitoring.blockers import spent
from tasks.monitoring.costs import Entry, Spent
from tasks.monitoring.flower.cells import Bar, Cards, dimension_bar, money
from tasks.monitoring.limits import blocked
from tasks.monitoring.snapshot import SystemSnapshot
from workers.figures import duration


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A bucket's row: a model with one of the provider's keys, or the whole account."""

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
    """A row for a budget's window."""

    name: str
    window: str
    bar: Bar
    resets: str


def model_rows(system: SystemSnapshot) -> list[ModelRow]:
    """A row for each bucket, with what keeps its calls back: a block, a circuit, a pause."""
    circuits = {state.circuit: state for state in system.limits.circuits}
    today = spent_by_target(system.today)
    rows = []
    for bucket in system.limits.buckets:
        provider, key, *rest = bucket.bucket.split("/", 2)
        target = f"{provider}/{rest[0]}" if rest else provider
        state, badge, why = bucket_state(system, bucket, circuits.get(target), f"{provider}/{key}")
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


def bucket_state(system: SystemSnapshot, bucket: BucketState, circuit: object, account: str) -> tuple[str, str, str]:
    """The first thing that keeps a bucket's calls back: its name, badge and reason."""
    now = system.limits.now
    if reason := blocked(system.limits, account, bucket.bucket.removeprefix(f"{account}/")):
        return "blocked", "danger", f"{reason} (overnight limits --clear {account.partition('/')[0]})"
    state, until = getattr(circuit, "state", "closed"), getattr(circuit, "until", 0)
    if state == "open":
        by_hand = getattr(circuit, "by_hand", False)
        return (
            "circuit open",
            "danger",
            "opened by hand" if by_hand else f"tried again in {duration((until - now) / SECOND)}",
        )
    if bucket.paused_until > now:
        return "paused", "warning", f"429: {duration((bucket.paused_until - now) / SECOND)} more"
    if state == "half-open":
        return "probing", "warning", "one call is testing whether it works again"
    return "up", "success", ""


def limit_cards(system: SystemSnapshot) -> Cards:
    """Calls in flight, pauses, open circuits, blocked accounts, spent budgets."""
    limits = system.limits
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
                f"{len(limits.blocked_accounts):,} · {full:,}",
                "danger" if limits.blocked_accounts or full else "success",
            ),
        ]
    )


def budget_rows(system: SystemSnapshot) -> list[BudgetRow]:
    """A row for each budget's current window."""
    return [
        BudgetRow(
            name=budget(state.subject).removeprefix("the ").capitalize()
            if state.subject == "all"
            else budget(state.subject).removeprefix("the budget of "),
            window=state.window,
            bar=money(state),
            resets=f"in {duration(state.resets / SECOND - system.at)}" if state.resets else "never",
        )
        for state in system.limits.budgets
    ]


def spent_by_target(today: Iterable[Entry]) -> dict[str, Spent]:
    """The sums of calls by target."""
    found: dict[str, Spent] = {}
    for entry in today:
        found[entry.target] = found.get(entry.target, Spent()) + entry.spent
    return found
