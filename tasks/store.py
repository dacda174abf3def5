"""Where batches and their jobs are kept, and the only two doors of a job: `begin` and `finish`.

Each function describes one script or command; `Store` runs them for the command line and the ticks, the runtime of
the workers runs the same calls on its event loop.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson
import redis

from limits.connection import Server
from limits.keys import Keys
from limits.scripts import Call, load
from tasks import job as jobs
from tasks.batch import LIVE, Batch, from_hash, to_hash
from tasks.job import Job
from workers.queues import queue_name
from workers.server import server_url
from workers.settings import Settings

#: How long the record of a batch that has ended is kept, and a job's of its own, in seconds.
KEEP_BATCH, KEEP_JOB = 30 * 86_400, 86_400

#: A job is leased for this long, in seconds, and its lease renewed while it runs.
LEASE = 60.0

_MICRO = 1_000_000

Verdict = Literal["run", "done", "held", "stopped", "stale", "gone"]


@dataclass(frozen=True, slots=True)
class Begun:
    """Whether a delivery may run its job. `wait`: seconds until another delivery's lease ends, where it is held."""

    verdict: Verdict
    wait: float
    answer: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended, and what it has cost in n$ and tokens.

    `settlement` closes the reservation of its last call (`limits.admission.settlement_json`); empty where none is
    open.
    """

    ok: bool
    line: bytes
    cost: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    settlement: bytes = b""

    @classmethod
    def error(cls, job: Job, code: str, message: str, **story: Any) -> "Ending":
        """An end without an answer."""
        line = jobs.result_line(
            job.result_id,
            job.line.custom_id,
            response=None,
            error=jobs.error_object(code, message),
            story={"provider": None, "model": None, "attempts": 0, "cost_usd": 0.0, "seconds": 0.0, **story},
        )
        return cls(ok=False, line=jobs.encode(line))


@dataclass(frozen=True, slots=True)
class Finished:
    """Whether this result counts: it does not where the job had ended before."""

    counts: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """One write of the collector: up to and with stream entry `last`, which makes `entries` of them."""

    last: str
    entries: int

    def __str__(self) -> str:
        return f"{self.last}:{self.entries}"


@dataclass(frozen=True, slots=True)
class Result:
    """One result that waits to be written."""

    number: int
    round: int
    ok: bool
    line: bytes


def begin(keys: Keys, job: Job, owner: str, lease: float = LEASE) -> Call[Begun]:
    """Ask whether this delivery may run the job, and lease it for so many seconds."""
    args: tuple[str | int, ...] = (owner, int(lease * _MICRO), "", KEEP_JOB)
    if job.batch is None:
        return Call(load("tasks/lua/begin.lua"), (keys.job(job.id),), args, _begun)
    return Call(load("tasks/lua/begin.lua"), _batch_keys(keys, job.batch)[:5], (*args, job.number, job.round), _begun)


def _begun(reply: Any) -> Begun:
    verdict, wait, answer = reply
    found = orjson.loads(answer) if answer else None
    return Begun(cast("Verdict", verdict.decode()), wait / _MICRO, found)


def finish(keys: Keys, job: Job, ending: Ending, *, calls: int = 0, throttles: int = 0) -> Call[Finished]:
    """End the job. Repeating it, here or by another delivery, changes nothing."""
    counts = (ending.cost, ending.input_tokens, ending.output_tokens, calls, throttles)
    args: tuple[str | bytes | int, ...] = (0, ending.settlement, int(ending.ok), ending.line, *counts, KEEP_JOB)
    script = load("tasks/lua/finish.lua")
    if job.batch is None:
        return Call(script, (keys.clock, keys.job(job.id)), args, _finished)
    return Call(script, (keys.clock, *_batch_keys(keys, job.batch)), (*args, job.number, job.round), _finished)


def _finished(reply: Any) -> Finished:
    return Finished(counts=bool(reply[0]))


def leave(keys: Keys, job: Job, owner: str) -> Call[None]:
    """Give up the lease of a job that goes back into its queue."""
    return _lease_call(keys, job, owner, "leave", 0)


def renew(keys: Keys, job: Job, owner: str, lease: float = LEASE) -> Call[None]:
    """Keep the lease of a job that is still running."""
    return _lease_call(keys, job, owner, "renew", int(lease * _MICRO))


def _lease_call(keys: Keys, job: Job, owner: str, what: str, lease: int) -> Call[None]:
    script = load("tasks/lua/lease.lua")
    if job.batch is None:
        return Call(script, (keys.job(job.id),), (what, owner, lease, ""), _nothing)
    names = _batch_keys(keys, job.batch)
    return Call(script, (names[3], names[4]), (what, owner, lease, "", job.number), _nothing)


def _nothing(reply: Any) -> None:
    del reply


def _batch_keys(keys: Keys, batch: str) -> tuple[str, ...]:
    return (
        keys.batch(batch),
        keys.done(batch),
        keys.failed(batch),
        keys.job_leases(batch),
        keys.job_owners(batch),
        keys.results(batch),
    )


class Store:
    """Batches, for whoever is not on an event loop: the command line and the ticks."""

    def __init__(self, keys: Keys, server: Server) -> None:
        self.keys = keys
        self.server = server
        self.client: redis.Redis = server.client

    def batch(self, batch_id: str) -> Batch | None:
        """The batch's record, or None where there is none."""
        return from_hash(cast("dict[bytes, bytes]", self.client.hgetall(self.keys.batch(batch_id))))

    def batches(self, count: int = 100) -> list[Batch]:
        """The newest batches, newest first."""
        ids = cast("list[bytes]", self.client.zrange(self.keys.batches, 0, count - 1, desc=True))
        found = [self.batch(name.decode()) for name in ids]
        return [batch for batch in found if batch is not None]

    def create(self, batch: Batch) -> tuple[Batch, bool]:
        """Make the batch unless it is there; the one that counts, and whether it is new."""
        record = [part for item in to_hash(batch).items() for part in item]
        made = self.server.run(
            Call(
                load("tasks/lua/create.lua"),
                (self.keys.batch(batch.id), self.keys.batches, self.keys.queues, self.keys.ticks),
                (batch.id, queue_name(batch.workflow), repr(batch.created), "", *record),
                bool,
            )
        )
        return (batch, True) if made else (self.batch(batch.id) or batch, False)

    def finish_many(self, steps: Sequence[tuple[Job, Ending]]) -> None:
        """End many jobs in one round trip."""
        if steps:
            self.server.run_many([finish(self.keys, job, ending) for job, ending in steps])

    def advance(self, batch_id: str, expected: Iterable[str], status: str, *, keep: int = 0, **fields: Any) -> str:
        """Move a batch to another status if it is in an expected one; returns the status that counts now."""
        pairs = [str(part) for item in fields.items() for part in item]
        return self.server.run(
            Call(
                load("tasks/lua/advance.lua"),
                (self.keys.batch(batch_id), self.keys.ticks),
                (batch_id, ",".join(expected), status, keep, "", "trouble", "", *pairs),
                lambda reply: cast("bytes", reply).decode(),
            )
        )

    def stop(self, batch_id: str, ending: Literal["cancelled", "expired"]) -> Batch | None:
        """Run no more of its jobs; those in flight end by themselves."""
        status = "cancelling" if ending == "cancelled" else "expiring"
        self.advance(batch_id, ["in_progress"], status, stopping=ending)
        return self.batch(batch_id)

    def finalize(self, batch_id: str) -> None:
        """All its jobs have ended; its files are being finished."""
        self.advance(batch_id, LIVE, "finalizing")

    def end(self, batch: Batch) -> Batch:
        """Give the batch its final status, and everything that belongs to it a lifetime."""
        self.advance(batch.id, ["finalizing"], batch.stopping or "completed", keep=KEEP_BATCH, ended=repr(time.time()))
        for key in _batch_keys(self.keys, batch.id)[1:3]:
            self.client.expire(key, KEEP_BATCH)
        self.client.delete(*_batch_keys(self.keys, batch.id)[3:])
        return self.batch(batch.id) or batch

    def trouble(self, batch_id: str, words: str) -> None:
        """Note what keeps a batch from going on, for its status; '' when it goes on again."""
        self.client.hset(self.keys.batch(batch_id), "trouble", words)

    def fed(self, batch: Batch, offset: int, line: int, count: int) -> bool:
        """Save that `count` more lines were handed out; False where another feeder has moved the batch on."""
        return self.server.run(
            Call(
                load("tasks/lua/fed.lua"),
                (self.keys.batch(batch.id),),
                (batch.fed_offset, offset, line, count),
                bool,
            )
        )

    def leased(self, batch_id: str) -> set[int]:
        """The lines that are in flight."""
        seconds, micros = self.client.time()
        now = seconds * _MICRO + micros
        found = self.client.zrange(self.keys.job_leases(batch_id), now, "+inf", byscore=True)
        return {int(line) for line in cast("list[bytes]", found)}

    def failed_lines(self, batch_id: str) -> "Bits":
        """The lines that have failed."""
        return Bits(cast("bytes", self.client.get(self.keys.failed(batch_id)) or b""))

    def ended_lines(self, batch_id: str) -> "Bits":
        """The lines that have ended, either way."""
        done = cast("bytes", self.client.get(self.keys.done(batch_id)) or b"")
        failed = cast("bytes", self.client.get(self.keys.failed(batch_id)) or b"")
        return Bits(done, failed)

    def plan(self, batch: Batch, entries: int, size: int) -> Plan | None:
        """The write that is to come next: the one that is planned, else a new one; None where nothing waits."""
        if batch.plan:
            last, _, count = batch.plan.partition(":")
            return Plan(last, int(count))
        found = self._entries(batch.id, batch.written_id, "+", entries)
        total = taken = 0
        for _, fields in found:
            total += len(fields[b"d"])
            if taken and total > size:
                break
            taken += 1
        if not taken:
            return None
        proposed = Plan(found[taken - 1][0].decode(), taken)
        counts = self.server.run(
            Call(
                load("tasks/lua/plan.lua"),
                (self.keys.batch(batch.id),),
                (batch.written_id, str(proposed)),
                lambda reply: cast("bytes", reply).decode(),
            )
        )
        last, _, count = counts.partition(":")
        return Plan(last, int(count)) if counts else Plan("", 0)

    def results(self, batch: Batch, plan: Plan) -> list[Result] | None:
        """The results of a plan; None where somebody else has written them and they are gone."""
        if not plan.entries:
            return None
        found = self._entries(batch.id, batch.written_id, plan.last, plan.entries)
        if len(found) != plan.entries or found[-1][0].decode() != plan.last:
            return None
        return [Result(int(f[b"n"]), int(f[b"r"]), f[b"k"] == b"1", f[b"d"]) for _, f in found]

    def commit(self, batch: Batch, plan: Plan, output: int, failures: int) -> Batch:
        """The plan is written; move on. The batch as it is now, whoever has moved it."""
        self.server.run(
            Call(
                load("tasks/lua/commit.lua"),
                (self.keys.batch(batch.id), self.keys.results(batch.id)),
                (batch.written_id, str(plan), plan.last, output, failures),
                bool,
            )
        )
        return self.batch(batch.id) or batch

    def _entries(self, batch_id: str, after: str, last: str, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        reply = self.client.xrange(self.keys.results(batch_id), f"({after}", last, count=count)
        return cast("list[tuple[bytes, dict[bytes, bytes]]]", reply)

    def take_ticks(self, lease: float, count: int) -> list[str]:
        """Take ticks that are due; each is this worker's for `lease` seconds."""
        return self.server.run(
            Call(
                load("tasks/lua/ticks.lua"),
                (self.keys.ticks,),
                (int(lease * _MICRO), count, ""),
                lambda reply: [tick.decode() for tick in cast("list[bytes]", reply)],
            )
        )

    def tick_again(self, tick: str, seconds: float | None) -> None:
        """Say when a tick is due again; None: never."""
        if seconds is None:
            self.client.zrem(self.keys.ticks, tick)
            return
        now, micros = self.client.time()
        due = now * _MICRO + micros + int(seconds * _MICRO)
        self.client.zadd(self.keys.ticks, {tick: due}, xx=True)


class Bits:
    """Lines that are set in one of some bitmaps, as Redis numbers bits: the first is the highest of byte 0."""

    def __init__(self, *maps: bytes) -> None:
        self.maps = maps

    def __contains__(self, line: object) -> bool:
        if not isinstance(line, int):
            return False
        byte, bit = line >> 3, 0x80 >> (line & 7)
        return any(byte < len(bits) and bits[byte] & bit for bits in self.maps)


def open_store(settings: Settings) -> Store:
    """The store that the settings name."""
    return Store(Keys(settings.namespace), Server(redis.Redis.from_url(server_url(settings))))
