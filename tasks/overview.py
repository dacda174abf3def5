"""What goes on right now, read in one place for all who show it: Flower's pages, the metrics, the command line.

Nothing here changes anything, and a reading takes four round trips whatever the size of a batch.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import orjson

from limits.bucket import Quota
from limits.budget import BudgetWindow
from limits.overview import BucketState, CircuitState, Snapshot, ledger, snapshot
from tasks.batch import Batch, from_hash
from tasks.store import Store
from workers import budgets
from workers.queues import Depth, depths, queue_name, workflow_of
from workers.settings import Settings

#: Seconds of a day; the ledger counts its days from 1970-01-01, UTC.
DAY = 86_400

#: How many batches are shown that have ended.
ENDED_SHOWN = 20

_MICRO = 1_000_000


class Row(NamedTuple):
    """What a row of the ledger is about."""

    workflow: str
    batch: str
    provider: str
    model: str


Ledger = Mapping[Row, Mapping[str, int]]
"""Columns of each row, summed over the days that were asked for; money in n$."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything as of `at`, seconds since the epoch. Queues are by workflow; the ledger is today's."""

    at: float
    batches: tuple[Batch, ...]
    queues: Mapping[str, Depth]
    limits: Snapshot
    today: Ledger

    @property
    def live(self) -> list[Batch]:
        """The batches that are not over."""
        return [batch for batch in self.batches if not batch.over]

    def depth(self, workflow: str) -> Depth:
        """A workflow's queue; an empty one where there is none."""
        return self.queues.get(workflow, Depth(0, 0, 0))


@dataclass(frozen=True, slots=True)
class Target:
    """A provider's model, with the state of its buckets (one a key) and its circuit."""

    provider: str
    model: str
    buckets: tuple[BucketState, ...]
    circuit: CircuitState | None

    @property
    def name(self) -> str:
        """`provider/model`, as people name it."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a snapshot is asked about: everything that the settings name, and the budgets of these batches."""

    buckets: tuple[tuple[str, Quota], ...]
    circuits: tuple[str, ...]
    accounts: tuple[str, ...]
    budgets: tuple[BudgetWindow, ...]


def everything(settings: Settings, batches: Iterable[Batch], now: float) -> Asked:
    """All buckets, circuits and accounts of the providers, and all budgets. `now` in seconds since the epoch."""
    buckets: list[tuple[str, Quota]] = []
    circuits: list[str] = []
    accounts: list[str] = []
    for name, provider in settings.providers.items():
        keys = max(1, provider.key_count)
        accounts += [f"{name}/{key}" for key in range(keys)]
        circuits += [f"{name}/{model}" for model in provider.models]
        account = provider.quota()
        for bucket in range(1 if provider.shared_quota else keys):
            if account is not None:
                buckets.append((f"{name}/{bucket}", account))
            buckets += [(f"{name}/{bucket}/{model}", limits.quota()) for model, limits in provider.models.items()]
    windows: dict[BudgetWindow, None] = {}
    live = [(batch.workflow, batch.id) for batch in batches if not batch.over]
    for workflow, batch in [*live, *((name, None) for name in settings.workflows)]:
        by_batch = settings.workflow(workflow).budget_window == "batch"
        for window in budgets.windows(settings, workflow, batch, now):
            if window.window != "batch" or (by_batch and batch is not None):
                windows[window] = None
    if settings.budget_nano is not None:
        windows |= dict.fromkeys(budgets.windows(settings, "", None, now))
    return Asked(tuple(buckets), tuple(circuits), tuple(accounts), tuple(windows))


def read(store: Store, settings: Settings, *, ended: int = ENDED_SHOWN) -> Overview:
    """Read everything: all batches that are not over and the newest `ended` of the others."""
    client, keys = store.client, store.keys
    look: Any = client.pipeline(transaction=False)
    look.zrange(keys.batches, 0, ended - 1, desc=True)
    look.zrange(keys.ticks, 0, -1)
    look.smembers(keys.queues)
    newest, ticks, queues = look.execute()
    live = {tick.decode().partition(":")[2] for tick in ticks}
    ids = list(dict.fromkeys([*(name.decode() for name in newest), *sorted(live)]))
    batches = read_batches(store, ids)
    names = {name.decode() for name in queues} | {queue_name(batch.workflow) for batch in batches if not batch.over}
    found = depths(client, keys, sorted(names))
    now = time.time()
    asked = everything(settings, batches, now)
    state = store.server.run(snapshot(keys, asked.buckets, asked.circuits, asked.accounts, asked.budgets))
    today = read_ledger(store, [state.now // _MICRO // DAY])
    return Overview(
        at=state.now / _MICRO,
        batches=tuple(sorted(batches, key=lambda batch: (batch.over, -batch.created))),
        queues={workflow: depth for name, depth in found.items() if (workflow := workflow_of(name))},
        limits=state,
        today=today,
    )


def read_batches(store: Store, ids: Iterable[str]) -> list[Batch]:
    """The records of these batches, in one round trip; those that are gone are left out."""
    pipeline: Any = store.client.pipeline(transaction=False)
    for batch_id in ids:
        pipeline.hgetall(store.keys.batch(batch_id))
    records = cast("list[dict[bytes, bytes]]", pipeline.execute())
    return [batch for record in records if (batch := from_hash(record)) is not None]


def read_ledger(store: Store, days: Iterable[int]) -> Ledger:
    """The sums of these days; rows that are none of ours are left out."""
    sums: dict[Row, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for (_, name), columns in store.server.run(ledger(store.keys, list(days))).items():
        row = row_of(name)
        if row is None:
            continue
        for column, amount in columns.items():
            sums[row][column] += amount
    return sums


def row_of(name: str) -> Row | None:
    """What a ledger row's name says it is about (`tasks.attempt.row` writes it)."""
    try:
        parts = orjson.loads(name)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts) or len(parts) > len(Row._fields):
        return None
    return Row(*parts, *[""] * (len(Row._fields) - len(parts)))


def targets(overview: Overview) -> list[Target]:
    """The models of every provider with their buckets and circuits, in the order of the configuration."""
    found: list[Target] = []
    for circuit in overview.limits.circuits:
        provider, _, model = circuit.circuit.partition("/")
        buckets = tuple(
            bucket
            for bucket in overview.limits.buckets
            if bucket.bucket.startswith(f"{provider}/") and bucket.bucket.partition("/")[2].partition("/")[2] == model
        )
        found.append(Target(provider, model, buckets, circuit))
    return found
