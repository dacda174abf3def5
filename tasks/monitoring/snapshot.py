"""A snapshot of the whole system, for Flower's pages, the metrics and the command line.

Reading it changes nothing and takes a handful of round trips, however large the batches are.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from limits.client.connection import open_client
from limits.client.replies import refuses_for_now, server_words
from limits.encoding import SECOND
from limits.snapshot import BucketState, CircuitState, Snapshot
from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk
from tasks.batches.chunk_journal import chunks_of
from tasks.batches.store import Store
from tasks.jobs import pauses
from tasks.jobs.changed_settings import in_force
from tasks.monitoring import limits as limits_now
from tasks.monitoring import live_calls
from tasks.monitoring.costs import Entry, entries
from workers.config.settings import Settings
from workers.transport.queues import Depth, depths, queue_name, workflow_of
from workers.transport.rabbitmq import is_amqp

#: Seconds of a day; the ledger counts its days from 1970-01-01, UTC.
DAY: Final = 86_400

#: Ended batches in a snapshot, the newest ones.
ENDED_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class SystemSnapshot:
    """Everything as of `at`, seconds since the epoch.

    queues    by workflow; None if the broker is RabbitMQ, whose own exporter has them
    today     today's rows of the ledger (UTC)
    workers   how many run, None if unknown
    lead      seconds by which the limits' clock is ahead of the Redis server's, 0 unless that was set back
    refuses   the Redis server's error if it refuses writes, else ''
    accounts  every configured account, blocked or not
    rates     jobs a second by batch id, None if it is too early to say; empty unless someone watches (flower/watch.py)
    calls     the HTTP servers' live calls in flight, by workflow
    chunks    of each batch that may use the batch lane, by batch id
    paused    batches and workflows that someone has paused, and since when (tasks/jobs/pauses.py)
    reasons   why each workflow's jobs were snoozed lately, in words; empty unless someone watches
    """

    at: float
    batches: tuple[Batch, ...]
    queues: Mapping[str, Depth] | None
    limits: Snapshot
    today: tuple[Entry, ...]
    workers: int | None = None
    lead: float = 0.0
    refuses: str = ""
    accounts: tuple[str, ...] = ()
    rates: Mapping[str, float | None] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)
    chunks: Mapping[str, Sequence[Chunk]] = field(default_factory=dict)
    paused: Mapping[str, float] = field(default_factory=dict)

    @property
    def live(self) -> list[Batch]:
        """The batches that are not over."""
        return [batch for batch in self.batches if not batch.over]

    def depth(self, workflow: str) -> Depth | None:
        """The queue of `workflow`, empty if it has none; None if queues are unknown."""
        return None if self.queues is None else self.queues.get(workflow, Depth(0, 0, 0))


@dataclass(frozen=True, slots=True)
class Target:
    """A target, with its buckets (one for each key) and its circuit."""

    provider: str
    model: str
    buckets: tuple[BucketState, ...]
    circuit: CircuitState | None

    @property
    def name(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"


def read(store: Store, settings: Settings, *, ended: int = ENDED_SHOWN) -> SystemSnapshot:
    """Read everything, with all batches that are not over and the newest `ended` others."""
    client, keys = store.client, store.keys
    settings = in_force(settings, client, keys)
    look: Any = client.pipeline(transaction=False)
    look.zrevrangebyscore(keys.batches, "+inf", "-inf", 0, ended)
    look.zrange(keys.ticks, 0, -1)
    look.smembers(keys.queues)
    look.time()
    look.get(keys.clock)
    look.hgetall(keys.live_calls)
    look.hgetall(keys.paused)
    look.set(keys.probe, "", xx=True)
    *found, probe = look.execute(raise_on_error=False)
    for reply in found:
        if isinstance(reply, Exception):
            raise reply
    newest, ticks, queues, (seconds, micros), clock, servers, paused = found
    live = {tick.decode().partition(":")[2] for tick in ticks}
    ids = list(dict.fromkeys([*(name.decode() for name in newest), *sorted(live)]))
    batches = store.records(ids)
    names = {name.decode() for name in queues} | {queue_name(batch.workflow) for batch in batches if not batch.over}
    limits = limits_now.read(settings, store, time.time(), [batch for batch in batches if not batch.over])
    return SystemSnapshot(
        at=seconds + micros / SECOND,
        workers=store.ticks.workers(),
        lead=max(0.0, int(clock or 0) / SECOND - seconds - micros / SECOND),
        refuses=server_words(probe) if isinstance(probe, Exception) and refuses_for_now(probe) else "",
        batches=tuple(sorted(batches, key=lambda batch: (batch.over, -batch.created))),
        queues=None if is_amqp(settings) else read_queues(store, settings, names),
        limits=limits,
        accounts=tuple(limits_now.accounts(settings)),
        calls=live_calls.in_flight(servers, seconds),
        chunks=read_chunks(store, batches),
        paused=pauses.decode(paused),
        today=tuple(entries(store.server, keys, [limits.now // SECOND // DAY])),
    )


def read_chunks(store: Store, batches: Iterable[Batch]) -> dict[str, list[Chunk]]:
    """The chunks of the batches that may use the batch lane."""
    ids = [batch.id for batch in batches if batch.has_batch_lane]
    return dict(zip(ids, chunks_of(store, ids), strict=True))


def read_queues(store: Store, settings: Settings, names: Iterable[str]) -> dict[str, Depth]:
    """The depths of the queues `names`, by workflow."""
    client = store.client
    if settings.broker_url is not None:
        client = open_client(settings.broker_url)
    try:
        found = depths(client, store.keys, sorted(names))
    finally:
        if client is not store.client:
            client.close()
    return {workflow: depth for name, depth in found.items() if (workflow := workflow_of(name))}


def targets(system: SystemSnapshot) -> list[Target]:
    """Every target with its buckets and circuit, in the order of the configuration."""
    found: list[Target] = []
    for circuit in system.limits.circuits:
        provider, _, model = circuit.circuit.partition("/")
        buckets = tuple(
            bucket
            for bucket in system.limits.buckets
            if bucket.bucket.startswith(f"{provider}/") and bucket.bucket.partition("/")[2].partition("/")[2] == model
        )
        found.append(Target(provider, model, buckets, circuit))
    return found
