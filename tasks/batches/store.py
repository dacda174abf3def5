"""The records of batches in Redis, read and changed by code that may block: the commands and the ticks.

Begin, finish and the lease of one job are in tasks/jobs/store.py.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

import orjson

from limits.client.connection import Server, open_client
from limits.client.scripts import Call, load
from limits.encoding import SECOND
from limits.keys import Keys
from tasks.batches.batch import LIVE, Batch, from_hash, is_batch_id, to_hash
from tasks.batches.due_ticks import DueTicks
from tasks.batches.line_set import LineSet
from tasks.jobs import pauses
from tasks.jobs.job import Job
from tasks.jobs.proof import new_token
from tasks.jobs.store import KEEP_BATCH, Outcome, batch_keys, finish
from workers.config.settings import Settings
from workers.embedded import server_url
from workers.transport.queues import queue_name

if TYPE_CHECKING:
    import redis


#: Records that are read in one round trip.
_PAGE = 500


def lifetime(deadline: float) -> int:
    """Seconds that a batch's keys live if no worker ever ends it."""
    return max(1, math.ceil(deadline - time.time())) + KEEP_BATCH


class Store:
    """Batches and their records. Its methods block, so don't call them on an event loop.

    `storage`, which holds the batches' files, overrides what their records say. With None the records count.
    """

    def __init__(self, keys: Keys, server: Server, storage: str | None = None) -> None:
        self.keys = keys
        self.server = server
        self.storage = storage
        self.client: redis.Redis = server.client
        self.ticks = DueTicks(keys, server)
        self.lane_ticks = DueTicks(keys, server, of_lane=True)

    def batch(self, batch_id: str) -> Batch | None:
        """The batch's record; None if missing."""
        return self._read(batch_id, cast("dict[bytes, bytes]", self.client.hgetall(self.keys.batch(batch_id))))

    def _read(self, batch_id: str, record: dict[bytes, bytes]) -> Batch | None:
        """Read a record. Its id and storage name a folder, so they are not trusted: others may write to Redis."""
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
        for start in range(0, len(names), _PAGE):
            yield from self.records(name.decode() for name in names[start : start + _PAGE])

    def forget_missing(self) -> None:
        """Remove batches from the list whose records have expired."""
        names = cast("list[bytes]", self.client.zrange(self.keys.batches, 0, -1))
        for start in range(0, len(names), _PAGE):
            some = names[start : start + _PAGE]
            pipeline: Any = self.client.pipeline(transaction=False)
            for name in some:
                pipeline.exists(self.keys.batch(name.decode()))
            if gone := [name for name, found in zip(some, pipeline.execute(), strict=True) if not found]:
                self.client.zrem(self.keys.batches, *gone)

    def live_ids(self) -> list[str]:
        """The ids of the batches that have ticks: all that have not ended, and some that ended just now."""
        ticks = cast("list[bytes]", self.client.zrange(self.keys.ticks, 0, -1))
        return sorted({tick.decode().partition(":")[2] for tick in ticks})

    def live(self) -> list[Batch]:
        """The batches that have not ended."""
        return [batch for batch in self.records(self.live_ids()) if not batch.over]

    def records(self, ids: Iterable[str]) -> list[Batch]:
        """The records of these batches, in one round trip; missing ones are left out."""
        names = list(ids)
        pipeline: Any = self.client.pipeline(transaction=False)
        for name in names:
            pipeline.hgetall(self.keys.batch(name))
        found = zip(names, cast("list[dict[bytes, bytes]]", pipeline.execute()), strict=True)
        return [batch for name, record in found if (batch := self._read(name, record)) is not None]

    def create(self, batch: Batch) -> tuple[Batch, bool]:
        """Create the batch unless it exists; returns the existing or the new one, and whether it is new."""
        batch = replace(batch, token=batch.token or new_token())
        record = [part for item in to_hash(batch).items() for part in item]
        keys = self.keys
        made = self.server.run(
            Call(
                load("tasks/batches/lua/create.lua"),
                (keys.batch(batch.id), keys.batches, keys.queues, keys.ticks, keys.ticks_idle),
                (batch.id, queue_name(batch.workflow), repr(batch.created), "", lifetime(batch.deadline), *record),
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
        """Move a batch from an `expected` status to `status`; returns the status that it has now."""
        pairs = [str(part) for item in {"feed_trouble": "", "collect_trouble": "", **more}.items() for part in item]
        round_ = "" if any_round else batch.round
        return self.server.run(
            Call(
                load("tasks/batches/lua/advance.lua"),
                (self.keys.batch(batch.id), self.keys.ticks, self.keys.ticks_idle, self.lane_ticks.due),
                (batch.id, ",".join(expected), status, keep, "", round_, *pairs),
                lambda reply: cast("bytes", reply).decode(),
            )
        )

    def stop(self, batch: Batch, ending: Literal["cancelled", "expired"]) -> Batch:
        """Start no more of its jobs. Those in flight run to their ends; the others are ended from line 1 on.

        If its input is still being checked, it ends at once.
        """
        now = repr(time.time())
        if self.advance(batch, ["validating"], ending, keep=KEEP_BATCH, ended=now, cancelling=now) == ending:
            return self.batch(batch.id) or batch
        status = "cancelling" if ending == "cancelled" else "expiring"
        more: dict[str, Any] = {"cancelling": now} if ending == "cancelled" else {}
        self.advance(batch, ["in_progress"], status, any_round=True, stopping=ending, fed_offset=0, fed_line=0, **more)
        return self.batch(batch.id) or batch

    def end(self, batch: Batch, status: str, trouble: str = "") -> Batch:
        """Give the batch its final status, and its keys a lifetime."""
        self.advance(batch, LIVE, status, keep=KEEP_BATCH, ended=repr(time.time()), feed_trouble=trouble)
        batch = self.batch(batch.id) or batch
        if batch.over:
            for key in (self.keys.done(batch.id), self.keys.failed(batch.id)):
                self.client.expire(key, KEEP_BATCH)
            self.client.delete(
                *batch_keys(self.keys, batch.id)[3:],
                self.keys.settled(batch.id),
                self.keys.spent(batch.id),
                self.keys.taken(batch.id),
                self.keys.offloaded(batch.id),
                self.keys.kept(batch.id),
            )
        return batch

    def retry(self, batch: Batch, deadline: float) -> int | None:
        """Start another round for the jobs that failed; returns their number, None if the batch has changed."""
        now = repr(time.time())
        kept = (self.keys.settled(batch.id), self.keys.spent(batch.id), self.keys.ticks_idle)
        extra = (self.keys.batches, self.keys.ticks, self.keys.queues, *kept)
        checks = {name: count for name, count in batch.check_counts.items() if not name.startswith("failed_")}
        zeros = ("divided_offset", "divided_line", "offloaded", "copies_failed", "pilot_fed")
        values: dict[str, str | int] = {
            "began": now,
            "deadline": repr(deadline),
            "pilot_over": 1,
            "checks": orjson.dumps(checks).decode(),
            **dict.fromkeys(zeros, 0),
        }
        fields = [part for item in values.items() for part in item]
        self.client.delete(self.keys.taken(batch.id), self.keys.offloaded(batch.id), self.keys.kept(batch.id))
        return self.server.run(
            Call(
                load("tasks/batches/lua/retry.lua"),
                (*batch_keys(self.keys, batch.id), *extra),
                (batch.id, batch.round, queue_name(batch.workflow), "", lifetime(deadline), *fields),
                lambda reply: None if reply < 0 else int(reply),
            )
        )

    def forget(self, batch_id: str) -> None:
        """Delete all keys of a batch."""
        keys = self.keys
        self.client.delete(*batch_keys(keys, batch_id), keys.settled(batch_id), keys.spent(batch_id))
        self.client.delete(*(of(batch_id) for of in (keys.taken, keys.offloaded, keys.chunks, keys.kept)))
        for journal in self.client.scan_iter(self.keys.journals(batch_id), count=1_000):
            self.client.unlink(journal)
        self.client.zrem(self.keys.batches, batch_id)
        ticks = (f"feed:{batch_id}", f"collect:{batch_id}")
        self.client.zrem(self.keys.ticks, *ticks)
        for kind in ("offload", "validate", "notify"):
            self.lane_ticks.again(f"{kind}:{batch_id}", None)
        self.client.srem(self.keys.ticks_idle, *ticks)

    def note(self, batch: Batch, **fields: Any) -> None:
        """Set fields of a batch's record, if the record still exists."""
        if self.client.exists(self.keys.batch(batch.id)):
            self.client.hset(self.keys.batch(batch.id), mapping={name: str(value) for name, value in fields.items()})

    def is_paused(self, batch: Batch) -> bool:
        """Whether nothing new of it may start."""
        return pauses.since(pauses.read(self.client, self.keys), batch.workflow, batch.id) is not None

    def fed(self, batch: Batch, offset: int, line: int, count: int, each: int = 0) -> bool:
        """Save that `count` more lines of `each` bytes were handed out; False if the batch was changed."""
        return self.server.run(
            Call(
                load("tasks/batches/lua/fed.lua"),
                (self.keys.batch(batch.id),),
                (batch.fed_offset, batch.round, batch.stopping, offset, line, count, each),
                bool,
            )
        )

    def pilot_fed(self, batch: Batch, count: int) -> bool:
        """Save that `count` more lines of its pilot were handed out; False if the batch was changed."""
        call = Call(load("tasks/batches/lua/pilot.lua"), (self.keys.batch(batch.id),), (batch.pilot_fed, count), bool)
        return self.server.run(call)

    def spent(self, batch_id: str, lines: Sequence[int]) -> dict[int, int]:
        """The cost so far of these lines' calls, in n$; lines without cost are left out."""
        found = cast("list[bytes | None]", self.client.hmget(self.keys.spent(batch_id), list(map(str, lines))))
        return {line: int(cost) for line, cost in zip(lines, found, strict=True) if cost}

    def kept(self, batch_id: str, lines: Sequence[int]) -> dict[int, bytes]:
        """The answers that these lines keep while they ask for others (tasks/jobs/kept.py); the others are left out."""
        found = cast("list[bytes | None]", self.client.hmget(self.keys.kept(batch_id), list(map(str, lines))))
        return {line: raw for line, raw in zip(lines, found, strict=True) if raw}

    def waiting(self, batch_id: str) -> int:
        """The number of results that are not in a file yet."""
        return int(self.client.xlen(self.keys.results(batch_id)))

    def leased(self, batch_id: str) -> set[int]:
        """The numbers of the lines that are in flight."""
        seconds, micros = self.client.time()
        now = seconds * SECOND + micros
        found = self.client.zrange(self.keys.job_leases(batch_id), now, "+inf", byscore=True)
        return {int(line) for line in cast("list[bytes]", found)}

    def ended_lines(self, batch_id: str) -> LineSet:
        """The lines that have completed or failed."""
        return LineSet(*self.ended_maps(batch_id))

    def ended_maps(self, batch_id: str) -> tuple[bytes, bytes]:
        """The bitmaps of the lines that have completed, and of those that have failed."""
        done = cast("bytes", self.client.get(self.keys.done(batch_id)) or b"")
        return done, cast("bytes", self.client.get(self.keys.failed(batch_id)) or b"")

    def offloaded_map(self, batch: Batch) -> bytes:
        """The bitmap of the lines that are in the batch lane now."""
        return cast("bytes", self.client.get(self.keys.offloaded(batch.id)) or b"") if batch.has_batch_lane else b""


def open_store(settings: Settings) -> Store:
    """A store for these settings."""
    return Store(Keys(settings.namespace), Server(open_client(server_url(settings))), settings.storage)
