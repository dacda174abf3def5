"""Where batches and their jobs are kept, and the only two doors of a job: `begin` and `finish`.

Each function describes one script or command; `Store` runs them for the command line and the ticks, the runtime of
the workers runs the same calls on its event loop.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast

from limits.budget import NANO
from limits.client.compact_json import loads
from limits.client.connection import Server, open_client
from limits.client.scripts import Call, load
from limits.keys import Keys
from limits.reservation import Settlement
from tasks.batches.batch import LIVE, Batch, from_hash, is_batch_id, to_hash
from tasks.jobs import job as jobs
from tasks.jobs.job import Job
from tasks.jobs.proof import new_token
from workers.config.settings import Settings
from workers.embedded import server_url
from workers.transport.queues import queue_name

if TYPE_CHECKING:
    import redis

#: How long the record of a batch that has ended is kept, and a job's of its own, in seconds. Longer than what
#: `overnight clean` waits by default: without a record nothing knows when a batch has ended.
KEEP_BATCH, KEEP_JOB = 90 * 86_400, 86_400

#: A job is leased for this long, in seconds, where the configuration's `visibility_timeout` says nothing else.
LEASE = 60.0

_MICRO = 1_000_000

#: A worker that has not asked for ticks for so many seconds is not there; nor is any if a tick is overdue by so many.
_SEEN, _OVERDUE = 10.0, 5.0

#: Of idle ticks, each comes in so many µs for each that there is: 100 a second in all.
_IDLE_EACH = 10_000

#: Records that are read in one round trip.
_AT_ONCE = 500

Ceiling = Literal["none", "own", "default"]
Verdict = Literal["run", "done", "held", "stopped", "stale", "gone", "refused"]


@dataclass(frozen=True, slots=True)
class Begun:
    """Whether a delivery may run its job. `wait`: seconds until another delivery's lease ends, where it is held."""

    verdict: Verdict
    wait: float
    answer: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended, and what it has cost in n$ and tokens.

    `settlement` closes the `reservation` of its last call (`limits.admission.settlement_json`); both empty where none
    is open. `counted` is the part of the cost that its batch has counted before: that of an agent's finished calls.
    `ceiling` is whose ceiling cut its answer off: its line's own, or the default one that Overnight has set.
    """

    ok: bool
    line: bytes
    cost: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    settlement: bytes = b""
    reservation: str = ""
    counted: int = 0
    ceiling: Ceiling = "none"

    @classmethod
    def error(
        cls, job: Job, code: str, message: str, *, cost: int = 0, attempts: int = 0, counted: int = 0
    ) -> "Ending":
        """An end without an answer. `cost`: what its attempts may have cost, in n$."""
        line = jobs.result_line(
            job.result_id,
            job.line.custom_id,
            response=None,
            error=jobs.error_object(code, message),
            story={
                "provider": None,
                "model": None,
                "attempts": attempts,
                "cost_usd": cost / NANO,
                "seconds": 0.0,
            },
        )
        return cls(ok=False, line=jobs.encode(line), cost=cost, counted=counted)


@dataclass(frozen=True, slots=True)
class Finished:
    """Whether this result counts: it does not where the job had ended before."""

    counts: bool


def begin(keys: Keys, job: Job, owner: str, lease: float = LEASE) -> Call[Begun]:
    """Ask whether this delivery may run the job, and lease it for so many seconds."""
    args: tuple[str | int, ...] = (owner, int(lease * _MICRO), "", KEEP_JOB)
    if job.batch is None:
        return Call(load("tasks/jobs/lua/begin.lua"), (keys.job(job.id),), args, _begun)
    return Call(load("tasks/jobs/lua/begin.lua"), _batch_keys(keys, job.batch)[:5], (*args, *_line(job)), _begun)


def _line(job: Job) -> tuple[str | int, ...]:
    """Which line of its batch the job is, with its proof."""
    return job.number, job.round, job.workflow, job.proof


def _begun(reply: Any) -> Begun:
    verdict, wait, answer = reply
    found = loads(answer) if answer else None
    return Begun(cast("Verdict", verdict.decode()), wait / _MICRO, found)


def finish(keys: Keys, job: Job, ending: Ending, *, calls: int = 0, throttles: int = 0) -> Call[Finished]:
    """End the job. Repeating it, here or by another delivery, changes nothing."""
    counts = (ending.cost - ending.counted, ending.input_tokens, ending.output_tokens, calls, throttles)
    args: tuple[str | bytes | int, ...] = (0, ending.settlement, int(ending.ok), ending.line, *counts, KEEP_JOB)
    script = load("tasks/jobs/lua/finish.lua")
    if job.batch is None:
        return Call(script, (keys.clock, keys.job(job.id)), args, _finished)
    names = (keys.clock, *_batch_keys(keys, job.batch), keys.ticks, keys.ticks_idle, keys.spent(job.batch))
    return Call(script, names, (*args, *_line(job), f"collect:{job.batch}", ending.ceiling), _finished)


def settle_line(keys: Keys, job: Job, settlement: bytes, closing: Settlement) -> Call[None]:
    """Settle a call of a batch's line that has not ended its job, and count it in the batch."""
    assert job.batch is not None
    columns = closing.columns
    counts = [columns.get(name, 0) for name in ("input_tokens", "output_tokens", "calls", "throttled")]
    names = (keys.clock, keys.batch(job.batch), keys.spent(job.batch))
    args: tuple[str | bytes | int, ...] = (0, settlement, job.number, closing.amount, *counts)
    return Call(load("tasks/jobs/lua/settle_line.lua"), names, args, _nothing)


def tell(keys: Keys, batch: str, words: str) -> Call[None]:
    """Say what holds up a batch, as a worker knows just now; forgotten soon after it was last said."""
    return Call(load("tasks/batches/lua/report_blocker.lua"), (keys.batch(batch),), (words,), _nothing)


def _finished(reply: Any) -> Finished:
    return Finished(counts=bool(reply[0]))


def leave(keys: Keys, job: Job, owner: str) -> Call[None]:
    """Give up the lease of a job that goes back into its queue."""
    return _lease_call(keys, job, owner, "leave", 0)


def renew(keys: Keys, job: Job, owner: str, lease: float = LEASE) -> Call[None]:
    """Keep the lease of a job that is still running."""
    return _lease_call(keys, job, owner, "renew", int(lease * _MICRO))


def _lease_call(keys: Keys, job: Job, owner: str, what: str, lease: int) -> Call[None]:
    script = load("tasks/jobs/lua/lease.lua")
    if job.batch is None:
        return Call(script, (keys.job(job.id),), (what, owner, lease, "", KEEP_JOB), _nothing)
    names = _batch_keys(keys, job.batch)
    return Call(script, (names[3], names[4]), (what, owner, lease, "", job.number), _nothing)


def _nothing(reply: Any) -> None:
    del reply


def _lifetime(deadline: float) -> int:
    """Seconds that a batch's keys live, even if no worker ever comes to end it."""
    return max(1, math.ceil(deadline - time.time())) + KEEP_BATCH


@lru_cache(maxsize=1024)
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
    """Batches, for whoever is not on an event loop: the command line and the ticks.

    `storage` is where their files are, whatever their records say; None: as these say.
    """

    def __init__(self, keys: Keys, server: Server, storage: str | None = None) -> None:
        self.keys = keys
        self.server = server
        self.storage = storage
        self.client: redis.Redis = server.client

    def batch(self, batch_id: str) -> Batch | None:
        """The batch's record, or None where there is none."""
        return self._read(batch_id, cast("dict[bytes, bytes]", self.client.hgetall(self.keys.batch(batch_id))))

    def _read(self, batch_id: str, record: dict[bytes, bytes]) -> Batch | None:
        """A record, which is not trusted with places: neither with a folder's name nor with where that folder is."""
        batch = from_hash(record)
        if batch is None or batch.id != batch_id or not is_batch_id(batch_id):
            return None
        return batch if self.storage is None else replace(batch, storage=self.storage)

    def batches(self, count: int = 100) -> list[Batch]:
        """The newest batches, newest first."""
        ids = cast("list[bytes]", self.client.zrange(self.keys.batches, 0, count - 1, desc=True))
        return self.records(name.decode() for name in ids)

    def every(self) -> Iterator[Batch]:
        """All batches, newest first."""
        names = cast("list[bytes]", self.client.zrange(self.keys.batches, 0, -1, desc=True))
        for start in range(0, len(names), _AT_ONCE):
            yield from self.records(name.decode() for name in names[start : start + _AT_ONCE])

    def forget_missing(self) -> None:
        """Take batches out of the list whose record's life has ended."""
        names = cast("list[bytes]", self.client.zrange(self.keys.batches, 0, -1))
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            pipeline: Any = self.client.pipeline(transaction=False)
            for name in some:
                pipeline.exists(self.keys.batch(name.decode()))
            if gone := [name for name, found in zip(some, pipeline.execute(), strict=True) if not found]:
                self.client.zrem(self.keys.batches, *gone)

    def live_ids(self) -> list[str]:
        """The ids of the batches that have ticks: those that are not over yet, and some that have just ended."""
        ticks = cast("list[bytes]", self.client.zrange(self.keys.ticks, 0, -1))
        return sorted({tick.decode().partition(":")[2] for tick in ticks})

    def live(self) -> list[Batch]:
        """The batches that are not over yet, in one round trip once their ids are known."""
        return [batch for batch in self.records(self.live_ids()) if not batch.over]

    def records(self, ids: Iterable[str]) -> list[Batch]:
        """The records of these batches, in one round trip; those that are gone are left out."""
        names = list(ids)
        pipeline: Any = self.client.pipeline(transaction=False)
        for name in names:
            pipeline.hgetall(self.keys.batch(name))
        found = zip(names, cast("list[dict[bytes, bytes]]", pipeline.execute()), strict=True)
        return [batch for name, record in found if (batch := self._read(name, record)) is not None]

    def create(self, batch: Batch) -> tuple[Batch, bool]:
        """Make the batch unless it is there; the one that counts, and whether it is new."""
        batch = replace(batch, token=batch.token or new_token())
        record = [part for item in to_hash(batch).items() for part in item]
        keys = self.keys
        made = self.server.run(
            Call(
                load("tasks/batches/lua/create.lua"),
                (keys.batch(batch.id), keys.batches, keys.queues, keys.ticks, keys.ticks_idle),
                (batch.id, queue_name(batch.workflow), repr(batch.created), "", _lifetime(batch.deadline), *record),
                bool,
            )
        )
        return (batch, True) if made else (self.batch(batch.id) or batch, False)

    def finish_many(self, steps: Sequence[tuple[Job, Ending]]) -> None:
        """End many jobs in one round trip."""
        if steps:
            self.server.run_many([finish(self.keys, job, ending) for job, ending in steps])

    def advance(
        self, batch: Batch, expected: Iterable[str], status: str, *, keep: int = 0, any_round: bool = False, **more: Any
    ) -> str:
        """Move a batch to another status if it is in an expected one; returns the status that counts now."""
        pairs = [str(part) for item in {"feed_trouble": "", "collect_trouble": "", **more}.items() for part in item]
        round_ = "" if any_round else batch.round
        return self.server.run(
            Call(
                load("tasks/batches/lua/advance.lua"),
                (self.keys.batch(batch.id), self.keys.ticks, self.keys.ticks_idle),
                (batch.id, ",".join(expected), status, keep, "", round_, *pairs),
                lambda reply: cast("bytes", reply).decode(),
            )
        )

    def stop(self, batch: Batch, ending: Literal["cancelled", "expired"]) -> Batch:
        """Run no more of its jobs; those in flight end by themselves, and the others are closed from line 1 on."""
        status = "cancelling" if ending == "cancelled" else "expiring"
        self.advance(batch, ["in_progress"], status, any_round=True, stopping=ending, fed_offset=0, fed_line=0)
        return self.batch(batch.id) or batch

    def end(self, batch: Batch, status: str, trouble: str = "") -> Batch:
        """Give the batch its final status, and everything that belongs to it a lifetime."""
        self.advance(batch, LIVE, status, keep=KEEP_BATCH, ended=repr(time.time()), feed_trouble=trouble)
        batch = self.batch(batch.id) or batch
        if batch.over:
            for key in (self.keys.done(batch.id), self.keys.failed(batch.id)):
                self.client.expire(key, KEEP_BATCH)
            self.client.delete(
                *_batch_keys(self.keys, batch.id)[3:], self.keys.settled(batch.id), self.keys.spent(batch.id)
            )
        return batch

    def retry(self, batch: Batch, deadline: float) -> int | None:
        """Start another round for what has not succeeded: how many jobs, None if the batch has moved on meanwhile."""
        now = repr(time.time())
        kept = (self.keys.settled(batch.id), self.keys.spent(batch.id), self.keys.ticks_idle)
        extra = (self.keys.batches, self.keys.ticks, self.keys.queues, *kept)
        fields = ("began", now, "deadline", repr(deadline))
        return self.server.run(
            Call(
                load("tasks/batches/lua/retry.lua"),
                (*_batch_keys(self.keys, batch.id), *extra),
                (batch.id, batch.round, queue_name(batch.workflow), "", _lifetime(deadline), *fields),
                lambda reply: None if reply < 0 else int(reply),
            )
        )

    def forget(self, batch_id: str) -> None:
        """Remove everything that is known of a batch."""
        self.client.delete(*_batch_keys(self.keys, batch_id), self.keys.settled(batch_id), self.keys.spent(batch_id))
        for journal in self.client.scan_iter(self.keys.journals(batch_id), count=1_000):
            self.client.unlink(journal)
        self.client.zrem(self.keys.batches, batch_id)
        ticks = (f"feed:{batch_id}", f"collect:{batch_id}")
        self.client.zrem(self.keys.ticks, *ticks)
        self.client.srem(self.keys.ticks_idle, *ticks)

    def note(self, batch: Batch, **fields: Any) -> None:
        """Note what the record of a live batch is to tell: such as what keeps it from going on."""
        if self.client.exists(self.keys.batch(batch.id)):
            self.client.hset(self.keys.batch(batch.id), mapping={name: str(value) for name, value in fields.items()})

    def fed(self, batch: Batch, offset: int, line: int, count: int, each: int = 0) -> bool:
        """Save that `count` more lines, of `each` bytes, were handed out; False if something else moved the batch."""
        return self.server.run(
            Call(
                load("tasks/batches/lua/fed.lua"),
                (self.keys.batch(batch.id),),
                (batch.fed_offset, batch.round, batch.stopping, offset, line, count, each),
                bool,
            )
        )

    def spent(self, batch_id: str, lines: Sequence[int]) -> dict[int, int]:
        """What the calls of these lines have cost so far, in n$; lines without any are left out."""
        found = cast("list[bytes | None]", self.client.hmget(self.keys.spent(batch_id), list(map(str, lines))))
        return {line: int(cost) for line, cost in zip(lines, found, strict=True) if cost}

    def waiting(self, batch_id: str) -> int:
        """Results that are not in a file yet."""
        return int(self.client.xlen(self.keys.results(batch_id)))

    def leased(self, batch_id: str) -> set[int]:
        """The lines that are in flight."""
        seconds, micros = self.client.time()
        now = seconds * _MICRO + micros
        found = self.client.zrange(self.keys.job_leases(batch_id), now, "+inf", byscore=True)
        return {int(line) for line in cast("list[bytes]", found)}

    def settled_lines(self, batch: Batch) -> "Bits":
        """The lines that had succeeded before the present round."""
        return Bits(cast("bytes", self.client.get(self.keys.settled(batch.id)) or b"") if batch.round else b"")

    def ended_lines(self, batch_id: str) -> "Bits":
        """The lines that have ended, either way."""
        done = cast("bytes", self.client.get(self.keys.done(batch_id)) or b"")
        failed = cast("bytes", self.client.get(self.keys.failed(batch_id)) or b"")
        return Bits(done, failed)

    def workers(self) -> int | None:
        """How many workers run ticks; None while none has asked lately, but no tick is overdue either."""
        pipeline: Any = self.client.pipeline(transaction=False)
        pipeline.time()
        pipeline.zrange(self.keys.tickers, 0, -1, withscores=True)
        pipeline.zrange(self.keys.ticks, 0, 0, withscores=True)
        (seconds, micros), tickers, first = pipeline.execute()
        now = seconds * _MICRO + micros
        running = len([who for who, at in tickers if now - at < _SEEN * _MICRO])
        if not running and not any(now - due > _OVERDUE * _MICRO for _, due in first):
            return None
        return running

    def take_ticks(self, lease: float, count: int, who: str, duty: float) -> tuple[bool, list[str]]:
        """Take ticks that are due; each is the worker's for `lease` seconds.

        Returns also whether `who` asks is on duty for the next `duty` seconds, and has to ask again within them.
        """

        def read(reply: list[Any]) -> tuple[bool, list[str]]:
            return bool(reply[0]), [tick.decode() for tick in reply[1]]

        keys = (self.keys.ticks, self.keys.ticks_duty, self.keys.ticks_idle, self.keys.tickers)
        args = (int(lease * _MICRO), count, "", who, int(duty * 1000))
        return self.server.repeat(Call(load("tasks/batches/lua/ticks.lua"), keys, args, read))

    def tick_again(self, tick: str, seconds: float | None) -> None:
        """Say when a tick is due again; None: never."""
        if seconds is None:
            self.client.zrem(self.keys.ticks, tick)
            return
        self._rest(tick, seconds, idle=0, seen=0, latest=seconds)

    def tick_idle(self, tick: str, seconds: float, batch: Batch, latest: float) -> None:
        """A tick had nothing to do: it is due once a job ends, at the earliest in `seconds`, at the latest in `latest`.

        `batch`: as the tick saw it.
        """
        self._rest(tick, seconds, idle=1, seen=batch.done, latest=latest)

    def _rest(self, tick: str, seconds: float, *, idle: int, seen: int, latest: float) -> None:
        kind, _, batch = tick.partition(":")
        keys = [self.keys.ticks, self.keys.ticks_idle, self.keys.batch(batch)]
        if kind == "collect":
            keys.append(self.keys.results(batch))
        args = (tick, int(seconds * _MICRO), idle, seen, int(latest * _MICRO), _IDLE_EACH, "")
        self.server.run(Call(load("tasks/batches/lua/rest.lua"), tuple(keys), args, int))

    def wake(self, tick: str) -> None:
        """An idle tick has something to do."""
        self.server.run(Call(load("tasks/batches/lua/wake.lua"), (self.keys.ticks, self.keys.ticks_idle), (tick,), int))

    def present(self, who: str) -> None:
        """Say that a worker is there that runs ticks, although one keeps it busy."""
        seconds, micros = self.client.time()
        self.client.zadd(self.keys.tickers, {who: seconds * _MICRO + micros}, xx=True)


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
    return Store(Keys(settings.namespace), Server(open_client(server_url(settings))), settings.storage)
