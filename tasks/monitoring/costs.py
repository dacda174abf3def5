"""What calls have cost: the ledger of the admissions, summed by workflow, model, provider and batch.

Money is in three columns. `cost` bought a result; `failed_cost` did not; `presumed_cost` is what a provider may have
billed without telling, at its upper bound: calls that hung, were cut off, or whose worker was killed. Days are UTC's.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import orjson

from limits.budget import NANO
from limits.client.connection import Server
from limits.keys import Keys
from limits.snapshot import ledger
from tasks.batches.batch import Batch
from workers.config import units

#: Days that are read at once: a year and the current day.
LONGEST: Final = 366

_EPOCH: Final = date(1970, 1, 1)
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Spent:
    """What some calls came to; money in n$. `presumed` counts the calls of `presumed_cost`."""

    calls: int = 0
    failed_calls: int = 0
    throttled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    failed_cost: int = 0
    presumed_cost: int = 0
    presumed: int = 0

    @property
    def total(self) -> int:
        """All that counts against a budget, in n$."""
        return self.cost + self.failed_cost + self.presumed_cost

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def shown(self) -> dict[str, Any]:
        """As `overnight costs --json` prints it."""
        return {
            "calls": self.calls,
            "failed_calls": self.failed_calls,
            "throttled": self.throttled,
            "presumed_calls": self.presumed,
            "usage": {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens},
            "cost_usd": self.cost / NANO,
            "failed_usd": self.failed_cost / NANO,
            "presumed_usd": self.presumed_cost / NANO,
            "total_usd": self.total / NANO,
        }


_COLUMNS: Final = frozenset(each.name for each in fields(Spent))


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger on one day. `batch` is '' for jobs without one."""

    day: date
    workflow: str
    batch: str
    provider: str
    model: str
    spent: Spent

    @property
    def target(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Costs:
    """The ledger from one day to another, both included."""

    since: date
    until: date
    entries: tuple[Entry, ...]

    @property
    def total(self) -> Spent:
        """All of it."""
        return sum((entry.spent for entry in self.entries), Spent())

    def by(self, name: Callable[[Entry], str]) -> list[tuple[str, Spent]]:
        """Sums by what `name` tells of an entry, the dearest first."""
        sums: dict[str, Spent] = {}
        for entry in self.entries:
            sums[name(entry)] = sums.get(name(entry), Spent()) + entry.spent
        return sorted(sums.items(), key=lambda each: (-each[1].total, each[0]))

    def shown(self) -> dict[str, Any]:
        """As `overnight costs --json` prints it."""
        groups = {"workflows": workflow, "models": target, "providers": provider, "batches": batch, "days": day}
        found: dict[str, Any] = {"since": self.since.isoformat(), "until": self.until.isoformat()}
        found["total"] = self.total.shown()
        for title, name in groups.items():
            found[title] = [{"name": key, **spent.shown()} for key, spent in self.by(name)]
        return found


def workflow(entry: Entry) -> str:
    """The workflow's name."""
    return entry.workflow


def target(entry: Entry) -> str:
    """`provider/model`."""
    return entry.target


def provider(entry: Entry) -> str:
    """The provider's name."""
    return entry.provider


def batch(entry: Entry) -> str:
    """The batch's id, or what stands for jobs without one."""
    return entry.batch or "(single jobs)"


def day(entry: Entry) -> str:
    """The day, as YYYY-MM-DD."""
    return entry.day.isoformat()


def today() -> date:
    """The current day, UTC."""
    return datetime.fromtimestamp(time.time(), UTC).date()


def since(text: str, now: date) -> date:
    """The day that `--since` names: a date, or how far back; ValueError in words."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        back = units.seconds(text, LONGEST * 86_400)
    except ValueError:
        raise ValueError('--since must be a day such as 2026-11-01, or how far back, such as "7d"') from None
    return now - timedelta(days=int(back // 86_400))


def read(server: Server, keys: Keys, begins: date, *, only: str | None = None) -> Costs:
    """The ledger from a day until now; `only` one workflow's."""
    until = today()
    begins = max(begins, until - timedelta(days=LONGEST - 1))
    days = [(begins - _EPOCH).days + each for each in range((until - begins).days + 1)]
    found = [entry for entry in entries(server, keys, days) if only is None or entry.workflow == only]
    return Costs(begins, until, tuple(found))


def entries(server: Server, keys: Keys, days: Sequence[int]) -> Iterable[Entry]:
    """The rows of these days, counted from 1970-01-01."""
    for (number, row), columns in ledger(server, keys, days).items():
        name, of, at, model = orjson.loads(row)
        spent = Spent(**{column: n for column, n in columns.items() if column in _COLUMNS})
        yield Entry(_EPOCH + timedelta(days=number), name, of, at, model, spent)


def presumed(server: Server, keys: Keys, of: Batch) -> int:
    """What a batch's calls may have cost beside what it has counted, in n$: calls whose worker was killed.

    Nothing is left of such a call but what the end of its lease has entered in the ledger.
    """
    first = int(of.created // _DAY)
    last = int((of.ended or time.time()) // _DAY) + 1
    days = list(range(max(first, last - LONGEST), last + 1))
    sums = sum((entry.spent for entry in entries(server, keys, days) if entry.batch == of.id), Spent())
    return max(0, min(sums.presumed_cost, sums.total - of.cost))
