"""How limits and costs look: tables on stdout, since they are the commands' results."""

import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from limits.encoding import SECOND
from limits.snapshot import BucketState, BudgetState, CircuitState, DimensionState, Snapshot
from tasks.console.view import escape
from tasks.monitoring import costs
from tasks.monitoring.costs import Costs, Spent
from workers.figures import dollars

#: Rows of a table of costs. The rest is summed in one more row.
LONGEST = 20

#: Columns of a terminal that the widest table needs.
WIDTH = 130

Row = tuple[str, ...]


def limits(found: Snapshot) -> None:
    """Every quota, circuit, blocked account and budget, once."""
    _console().print(_all(found))


def watch(look: Callable[[], Snapshot], pause: Callable[[], None]) -> None:
    """The same, again and again, until interrupted."""
    console = _console()
    with Live(_all(look()), console=console, auto_refresh=False) as live:
        while True:
            pause()
            live.update(_all(look()), refresh=True)


def spent(found: Costs, *, days: bool) -> None:
    """The ledger's sums, one table for each grouping."""
    console = _console()
    period = f"{found.since} to {found.until}, UTC"
    if not found.entries:
        console.print(f"nothing was spent: {period}")
        return
    parts: list[RenderableType] = [period]
    groups = [("workflow", costs.workflow), ("model", costs.target), ("provider", costs.provider)]
    groups += [("batch", costs.batch)] + ([("day", costs.day)] if days else [])
    for title, name in groups:
        parts += ["", _sums(title, found.by(name))]
    parts += ["", _sums("all", [("all", found.total)])]
    if words := costs.cache_words(found.total):
        parts += ["", f"prompt caches: {words}"]
    console.print(Group(*parts))


def _console() -> Console:
    # If it were narrower, rich would cut off numbers. The terminal wraps them, and they can still be read.
    return Console(highlight=False, width=max(shutil.get_terminal_size().columns, WIDTH))


def _all(found: Snapshot) -> RenderableType:
    parts: list[RenderableType] = [_quotas(found)]
    if found.circuits:
        parts += ["", _circuits(found)]
    if found.budgets:
        parts += ["", _budgets(found)]
    if found.ahead > SECOND:
        seconds = f"{found.ahead / SECOND:,.0f} s"
        parts.append(f"\n[yellow]the Redis server's clock was set back by {seconds}[/]: limits run a tenth slower")
    for account, reason in found.blocked_accounts.items():
        provider = account.partition("/")[0]
        parts.append(f"\n[red]account {escape(account)} is blocked[/]: {escape(reason)}")
        parts.append(f"  a probe tests it now and then; to unblock it now: overnight limits --clear {escape(provider)}")
    return Group(*parts)


def _quotas(found: Snapshot) -> Table:
    table = _table(
        "quota", "limit", "rate", "free now", "burst", "in flight", "paused", right="limit rate free burst in"
    )
    for bucket in found.buckets:
        flight = f"{bucket.in_flight:,}" + (f" of {bucket.concurrency:,}" if bucket.concurrency else "")
        paused = f"{(bucket.paused_until - found.now) / SECOND:.1f} s more" if bucket.paused_until > found.now else "-"
        name = escape(bucket.bucket) + (" [dim](urgent work first)[/]" if bucket.urgent else "")
        rows = _dimensions(bucket) or [("no limit", "-", "-", "-")]
        for number, row in enumerate(rows):
            table.add_row(*((name, *row, flight, paused) if number == 0 else ("", *row, "", "")))
    return table


def _dimensions(bucket: BucketState) -> list[Row]:
    return [
        (_limit(each), f"{each.rate:,.1f}/s", f"{each.available:,.0f}", f"{each.burst:.3g} s")
        for each in bucket.dimensions
    ]


def _limit(state: DimensionState) -> str:
    """The limit in force, and the configured one if the provider states another."""
    if not state.configured:
        return f"{state.limit:,} {state.name}, stated"
    less = f" of {state.configured:,}" if state.limit < state.configured else ""
    return f"{state.limit:,}{less} {state.name}"


def _circuits(found: Snapshot) -> Table:
    table = _table("circuit", "state", "calls", "failures", "retries left", right="calls failures retries left")
    for circuit in found.circuits:
        left = f"{circuit.retries_left:.0f}" if circuit.retries_left >= 0 else "all"
        table.add_row(
            escape(circuit.circuit), _state(circuit, found.now), f"{circuit.calls:,}", f"{circuit.failures:,}", left
        )
    return table


def _state(circuit: CircuitState, now: int) -> str:
    if circuit.by_hand:
        return f"[yellow]held {circuit.state} by hand[/]"
    if circuit.state == "open":
        wait = max(0.0, (circuit.until - now) / SECOND)
        return f"[red]open[/], a probe in {wait:.1f} s" if wait else "[red]open[/], a probe is next"
    return f"[yellow]{circuit.state}[/]" if circuit.state == "half-open" else circuit.state


def _budgets(found: Snapshot) -> Table:
    table = _table("budget", "window", "limit", "spent", "held", "left", "resets", right="limit spent held left")
    for budget in found.budgets:
        left = budget.limit - budget.spent - budget.held
        table.add_row(
            escape(budget.subject),
            budget.window,
            dollars(budget.limit),
            dollars(budget.spent),
            dollars(budget.held),
            f"[red]{dollars(max(left, 0))}[/]" if left <= 0 else dollars(left),
            _resets(budget),
        )
    return table


def _resets(budget: BudgetState) -> str:
    if not budget.resets:
        return "never"
    return datetime.fromtimestamp(budget.resets / SECOND, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _sums(title: str, sums: Sequence[tuple[str, Spent]]) -> Table:
    columns = ("calls", "failed", "429s", "tokens in", "tokens out", "cost", "cost, failed", "cost, presumed", "total")
    table = _table(title, *columns, right=" ".join(columns))
    shown = list(sums)
    if len(shown) > LONGEST:
        rest = sum((spent for _, spent in shown[LONGEST:]), Spent())
        shown = [*shown[:LONGEST], (f"{len(sums) - LONGEST} more", rest)]
    for name, spent in shown:
        table.add_row(
            escape(name),
            *(f"{count:,}" for count in (spent.calls, spent.failed_calls, spent.throttled)),
            *(f"{count:,}" for count in (spent.input_tokens, spent.output_tokens)),
            *(dollars(money) for money in (spent.cost, spent.failed_cost, spent.presumed_cost, spent.total)),
        )
    return table


def _table(*columns: str, right: str) -> Table:
    """A plain table. Columns whose first word is in `right` are numbers."""
    numbers = set(right.split())
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        justify = "right" if number and name.split(",")[0].split()[0] in numbers else "left"
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    return table
