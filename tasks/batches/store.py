"""Where batches are kept, for code that may block: the command line and the ticks.

Begin, finish and the lease of one job are in tasks/jobs/store.py.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

from limits.client.connection import Server, open_client
from limits.client.scripts import Call, load
from limits.keys import Keys
from tasks.batches.batch import LIVE, Batch, from_hash, is_batch_id, to_hash
from tasks.jobs.job import Job
from tasks.jobs.proof import new_token
from tasks.jobs.store import KEEP_BATCH, Outcome, batch_keys, finish
from workers.config.settings import Settings
from workers.embedded import server_url
from workers.transport.queues import queue_name

if TYPE_CHECKING:
    import redis

_MICRO = 1_000_000

#: A worker that has not asked for ticks for so many seconds is not there; nor is any if a tick is overdue by so many.
_SEEN, _OVERDUE = 10.0, 5.0

#: Of idle ticks, each comes in so many µs for each that there is: 100 a second in all.
_IDLE_EACH = 10_000

#: Records that are read in one round trip.
_AT_ONCE = 500


def _lifetime(deadline: float) -> int:
    """Seconds that a batch's keys live, even if no worker ever comes to end it."""
    return max(1, math.ceil(deadline - time.time())) + KEEP_BATCH


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

    def finish_many(self, steps: Sequence[tuple[Job, Outcome]]) -> None:
        """End many jobs in one round trip."""
        if steps:
            self.server.run_many([finish(self.keys, job, outcome) for job, outcome in steps])

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
                *batch_keys(self.keys, batch.id)[3:], self.keys.settled(batch.id), self.keys.spent(batch.id)
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
                (*batch_keys(self.keys, batch.id), *extra),
                (batch.id, batch.round, queue_name(batch.workflow), "", _lifetime(deadline), *fields),
                lambda reply: None if reply < 0 else int(reply),
            )
        )

    def forget(self, batch_id: str) -> None:
        """Remove everything that is known of a batch."""
        self.client.delete(*batch_keys(self.keys, batch_id), self.keys.settled(batch_id), self.keys.spent(batch_id))
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
