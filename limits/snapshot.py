"""The limits as of now, which `overnight limits` shows; and the ledger, which `overnight costs` shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.circuit import CircuitSettings
from limits.client.scripts import Call
from limits.encoding import budget_json, call, circuit_json, quota_json
from limits.keys import Keys

if TYPE_CHECKING:
    from limits.client.connection import Server


@dataclass(frozen=True, slots=True)
class DimensionState:
    """One dimension of a bucket.

    - `limit`: units of the limit in force: the configured one, or a lower one that headers reported.
    - `rate`: units a second.
    - `available`: units free now.
    - `burst`: seconds, learned or fixed.
    - `configured`: the configured limit, 0 if only the provider states one.
    """

    name: str
    limit: int
    rate: float
    available: float
    burst: float
    configured: int = 0


@dataclass(frozen=True, slots=True)
class BucketState:
    """A bucket. `paused_until` in µs, 0 if it is not paused. `in_flight` counts open reservations."""

    bucket: str
    dimensions: tuple[DimensionState, ...]
    in_flight: int
    concurrency: int
    paused_until: int
    urgent: bool


@dataclass(frozen=True, slots=True)
class CircuitState:
    """A circuit. `state`: closed, open or half-open. `until`: its cooldown's end (µs). `by_hand`: a person holds it."""

    circuit: str
    state: str
    until: int
    by_hand: bool
    calls: int
    failures: int
    retries_left: float


@dataclass(frozen=True, slots=True)
class BudgetState:
    """The current window of a budget, in n$. `resets` in µs, 0 if it never does."""

    subject: str
    window: str
    limit: int
    spent: int
    held: int
    resets: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that was asked about, read in one step at `now` (µs).

    - `blocked_accounts`: account -> reason.
    - `ahead`: by how much the scripts' time is ahead of the server's clock, after that was set back (µs).
    """

    now: int
    buckets: tuple[BucketState, ...]
    circuits: tuple[CircuitState, ...]
    blocked_accounts: dict[str, str]
    budgets: tuple[BudgetState, ...]
    open_reservations: int
    ahead: int = 0


def snapshot(
    keys: Keys,
    buckets: Sequence[tuple[str, Quota]] = (),
    circuits: Sequence[str] = (),
    accounts: Sequence[str] = (),
    budgets: Sequence[BudgetWindow] = (),
    circuit: CircuitSettings | None = None,
    now: int | None = None,
) -> Call[Snapshot]:
    """Read the state of buckets, circuits, accounts and budgets. Changes nothing. `circuit`: the circuits' settings."""
    body = {
        "buckets": [{"bucket": bucket, "quota": quota_json(quota)} for bucket, quota in buckets],
        "circuits": list(circuits),
        "accounts": list(accounts),
        "budgets": [budget_json(budget) for budget in budgets],
        "circuit_settings": circuit_json(circuit or CircuitSettings()),
    }
    return cast("Call[Snapshot]", call(keys, "snapshot", body, _snapshot, now))


def _snapshot(reply: Sequence[Any]) -> Snapshot:
    now, reservations, server_time, buckets, circuits, blocked, budgets = reply
    return Snapshot(
        now=now,
        buckets=tuple(_bucket(*bucket) for bucket in buckets),
        circuits=tuple(_circuit(*circuit) for circuit in circuits),
        blocked_accounts={account.decode(): reason.decode() for account, reason in blocked},
        budgets=tuple(BudgetState(subject.decode(), window.decode(), *rest) for subject, window, *rest in budgets),
        open_reservations=reservations,
        ahead=now - server_time,
    )


def _bucket(
    name: bytes, in_flight: int, concurrency: int, paused_until: int, urgent: int, dimensions: Sequence[Any]
) -> BucketState:
    states = tuple(
        DimensionState(dimension.decode(), limit, float(rate), float(available), float(burst), configured)
        for dimension, limit, rate, available, burst, configured in sorted(dimensions)
    )
    return BucketState(name.decode(), states, in_flight, concurrency, paused_until, bool(urgent))


def _circuit(
    name: bytes, state: bytes, until: int, by_hand: int, calls: int, failures: int, retries_left: bytes
) -> CircuitState:
    return CircuitState(name.decode(), state.decode(), until, bool(by_hand), calls, failures, float(retries_left))


LEDGER_ROWS: Final = 500
"""About how many rows of the ledger one call reads. That takes the server some milliseconds."""

Rows = dict[tuple[int, str], dict[str, int]]
"""(day, row) -> columns of the ledger, money in n$.

The columns are what settlements added, and `cost`, `failed_cost` and `presumed_cost`. `presumed` counts the calls whose
cost is presumed.
"""


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """Some rows of the ledger. `following`: the next page, as the index of a day and a cursor; None at the end."""

    rows: Rows
    following: tuple[int, str] | None


def ledger_page(
    keys: Keys, days: Sequence[int], begins: tuple[int, str] = (1, "0"), rows: int = LEDGER_ROWS, now: int | None = None
) -> Call[LedgerPage]:
    """Read a page of the ledger of some days (UTC, counted from 1970-01-01)."""
    body = {"days": list(days), "which": begins[0], "cursor": begins[1], "rows": rows}
    return cast("Call[LedgerPage]", call(keys, "ledger", body, _page, now))


def ledger(server: "Server", keys: Keys, days: Sequence[int], rows: int = LEDGER_ROWS) -> Rows:
    """Read the ledger of some days, page by page. May or may not include calls that settle at the same time."""
    found: Rows = {}
    begins: tuple[int, str] | None = (1, "0")
    while begins is not None:
        page = server.run(ledger_page(keys, days, begins, rows))
        found |= page.rows
        begins = page.following
    return found


def _page(reply: Sequence[Any]) -> LedgerPage:
    rows, which, cursor = reply
    found = {(day, row.decode()): orjson.loads(columns) for day, row, columns in rows}
    return LedgerPage(found, (which, cursor.decode()) if which else None)
