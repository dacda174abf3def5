"""What calls have cost: the ledger, summed by workflow, model, provider and batch.

Money has three columns. `cost` paid for results and `failed_cost` for failures. `presumed_cost` is the upper bound of
what a provider may have billed without reporting it: for calls that hung, were cut off, or whose worker was killed.
Days are UTC.
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
from workers.figures import dollars

#: Days that may be read at once: a year and today.
LONGEST: Final = 366

_EPOCH: Final = date(1970, 1, 1)
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Spent:
    """The sums of some calls, money in n$. `presumed` is the number of calls in `presumed_cost`.

    `batch_calls` went through the batch lane, which has saved `batch_saved` against the live price. The same of the
    flex tier: `flex_calls`, `flex_saved`. `server_calls` were made for clients of the HTTP server. `cached_tokens` of
    the input came from providers' prompt caches, which has saved `cache_saved`; below 0 if writing to them cost more.
    """

    calls: int = 0
    failed_calls: int = 0
    throttled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    failed_cost: int = 0
    presumed_cost: int = 0
    presumed: int = 0
    batch_calls: int = 0
    batch_saved: int = 0
    flex_calls: int = 0
    flex_saved: int = 0
    server_calls: int = 0
    cached_tokens: int = 0
    cache_saved: int = 0

    @property
    def total(self) -> int:
        """What counts against a budget, in n$."""
        return self.cost + self.failed_cost + self.presumed_cost

    @property
    def cached_share(self) -> float:
        """The part of the input tokens that came from prompt caches."""
        return self.cached_tokens / self.input_tokens if self.input_tokens else 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def shown(self) -> dict[str, Any]:
        """The JSON of `overnight costs --json`."""
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
            "batch_lane": {"calls": self.batch_calls, "saved_usd": self.batch_saved / NANO},
            "http_server": {"calls": self.server_calls},
            "flex_lane": {"calls": self.flex_calls, "saved_usd": self.flex_saved / NANO},
            "prompt_cache": self.prompt_cache(),
        }

    def prompt_cache(self) -> dict[str, Any]:
        """What came from prompt caches, as JSON."""
        return {
            "cached_tokens": self.cached_tokens,
            "share": round(self.cached_share, 4),
            "saved_usd": self.cache_saved / NANO,
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
    """The ledger from `since` to `until`, both included."""

    since: date
    until: date
    entries: tuple[Entry, ...]

    @property
    def total(self) -> Spent:
        return sum((entry.spent for entry in self.entries), Spent())

    def by(self, name: Callable[[Entry], str]) -> list[tuple[str, Spent]]:
        """Sums by what `name` returns for an entry, the most expensive first."""
        sums: dict[str, Spent] = {}
        for entry in self.entries:
            sums[name(entry)] = sums.get(name(entry), Spent()) + entry.spent
        return sorted(sums.items(), key=lambda each: (-each[1].total, each[0]))

    def shown(self) -> dict[str, Any]:
        """The JSON of `overnight costs --json`."""
        groups = {"workflows": workflow, "models": target, "providers": provider, "batches": batch, "days": day}
        found: dict[str, Any] = {"since": self.since.isoformat(), "until": self.until.isoformat()}
        found["total"] = self.total.shown()
        for title, name in groups.items():
            found[title] = [{"name": key, **spent.shown()} for key, spent in self.by(name)]
        return found


def cache_words(spent: Spent) -> str:
    """What came from prompt caches and what that has saved, in words; '' if nothing was read from them or written."""
    if not spent.cached_tokens and not spent.cache_saved:
        return ""
    share = f"{spent.cached_share:.1%} of the input tokens"
    if spent.cache_saved < 0:
        return f"{share}; writing to it has cost {dollars(-spent.cache_saved)} more than reading has saved"
    return f"{share}, saved {dollars(spent.cache_saved)}"


def workflow(entry: Entry) -> str:
    """Group by workflow."""
    return entry.workflow


def target(entry: Entry) -> str:
    """Group by target."""
    return entry.target


def provider(entry: Entry) -> str:
    """Group by provider."""
    return entry.provider


def batch(entry: Entry) -> str:
    """Group by batch; jobs without one are together."""
    return entry.batch or "(single jobs)"


def day(entry: Entry) -> str:
    """Group by day, as YYYY-MM-DD."""
    return entry.day.isoformat()


def today() -> date:
    """Today, UTC."""
    return datetime.fromtimestamp(time.time(), UTC).date()


def since(text: str, now: date) -> date:
    """The day that `--since` names: a date, or how far back. Raises ValueError with a message for the user."""
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
    """Read the ledger from `begins` until now, with `only` of one workflow."""
    until = today()
    begins = max(begins, until - timedelta(days=LONGEST - 1))
    days = [(begins - _EPOCH).days + each for each in range((until - begins).days + 1)]
    found = [entry for entry in entries(server, keys, days) if only is None or entry.workflow == only]
    return Costs(begins, until, tuple(found))


def entries(server: Server, keys: Keys, days: Sequence[int]) -> Iterable[Entry]:
    """The rows of `days`, counted from 1970-01-01."""
    for (number, row), columns in ledger(server, keys, days).items():
        name, of, at, model = orjson.loads(row)
        spent = Spent(**{column: n for column, n in columns.items() if column in _COLUMNS})
        yield Entry(_EPOCH + timedelta(days=number), name, of, at, model, spent)


def of_batch(server: Server, keys: Keys, of: Batch) -> Spent:
    """What the ledger has of a batch."""
    first = int(of.created // _DAY)
    last = int((of.ended or time.time()) // _DAY) + 1
    days = list(range(max(first, last - LONGEST), last + 1))
    return sum((entry.spent for entry in entries(server, keys, days) if entry.batch == of.id), Spent())


def presumed(spent: Spent, of: Batch) -> int:
    """What a batch may have cost beyond its own count, in n$: calls whose worker was killed.

    Such a call leaves only what the end of its lease wrote to the ledger. `spent`: what that has of the batch.
    """
    return max(0, min(spent.presumed_cost, spent.total - of.cost))
