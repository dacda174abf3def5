"""The journal of an agent's job: what its calls and steps returned, for replays and for `overnight jobs`.

Only the delivery that holds the job's lease writes. The journal of a batch's job expires with its batch. Without
a batch it lives for 90 days after the job was last seen or due, and for a day after the job's end. When a job has
succeeded its answers are deleted, and the entries stay. A failed job keeps everything: a new round reuses what fits.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

import orjson
import redis

from limits.client.async_connection import AsyncServer
from limits.client.scripts import Call, load
from limits.keys import Keys
from tasks.agents.errors import Halted, Superseded
from tasks.agents.journal_record import Entry, Record, read
from tasks.agents.stored_bodies import LARGE, BodyLost, StoredBodies
from tasks.jobs.job import Job
from tasks.jobs.storage import StorageError
from tasks.jobs.store import KEEP_BATCH, KEEP_JOB

#: Seconds for which writing an entry is retried: the call is paid for, and its answer exists nowhere else.
WRITE_PATIENCE: Final = 3_600.0


def key_of(keys: Keys, job: Job) -> str:
    """The key of a job's journal."""
    return keys.journal(job.batch, job.number) if job.batch else keys.job_journal(job.id)


def spent(client: redis.Redis, keys: Keys, found: Sequence[Job]) -> dict[int, tuple[int, int]]:
    """The cost (n$) and calls of a batch's jobs in this round, by line number; jobs without a journal are left out."""
    pipeline: Any = client.pipeline(transaction=False)
    for job in found:
        pipeline.hmget(key_of(keys, job), "round", "cost", "calls")
    sums = {}
    for job, (round_, cost, calls) in zip(found, pipeline.execute(), strict=True):
        if round_ is not None and int(round_) == job.round:
            sums[job.number] = (int(cost), int(calls))
    return sums


class Journal:
    """The journal of one job, as one delivery reads and writes it. `refused`: why the storage took no answer, or ''."""

    def __init__(self, server: AsyncServer, keys: Keys, job: Job, owner: str, storage: str, record: Record) -> None:
        self.server = server
        self.keys = keys
        self.key = key_of(keys, job)
        self.job = job
        self.owner = owner
        self.stored = StoredBodies(storage, job, owner)
        self.record = record
        self.refused = ""
        self._unwritten: dict[str, float] = {}

    @classmethod
    async def open(cls, server: AsyncServer, keys: Keys, job: Job, owner: str, storage: str) -> "Journal":
        """Read the job's journal; begin it if it doesn't exist."""
        lifetime = KEEP_BATCH
        if job.batch:
            lifetime += max(0, round(job.deadline - time.time()))
        script = load("tasks/agents/lua/open_journal.lua")
        record = await server.run(Call(script, (key_of(keys, job),), (job.round, lifetime, ""), _record))
        return cls(server, keys, job, owner, storage, record)

    async def load(self) -> None:
        """Read the bodies that are files; StorageError if the storage fails now.

        Halted if a file of this round is gone for good. A call of an earlier round is simply made again.
        """
        bodies = self.record.bodies
        for position, entry in self.record.entries.items():
            if not entry.file and len(bodies.get(position, b"")) > LARGE:
                # The storage refused this body earlier: write it before the next call returns another.
                await self.stored.drop(await self.stored.write(position, bodies[position]))
            elif entry.file and (entry.round == self.job.round or entry.ok):
                try:
                    bodies[position] = await self.stored.read(entry.file)
                except BodyLost as lost:
                    if entry.round == self.job.round:
                        words = f"an answer of its journal is gone: {lost}; `overnight retry` makes that call again"
                        raise Halted("answer_lost", words) from lost

    def find(self, position: str, kind: str, name: str, asked: str) -> Entry | None:
        """The entry at a position, None if it has none; Halted if the agent asked for something else there.

        An entry of an earlier round is reused if it succeeded and the request is the same.
        """
        entry = self.record.entries.get(position)
        if entry is None:
            return None
        if entry.round != self.job.round:
            fits = entry.ok and entry.digest == asked and position in self.record.bodies
            return entry if fits else None
        if entry.digest == asked:
            return entry
        other = " with another request" if (entry.kind, entry.name) == (kind, name) else ""
        raise Halted(
            "agent_changed",
            f"at position {position} of its journal this job has {_named(entry.kind, entry.name)}, and the agent now "
            f"asks for {_named(kind, name)}{other}: its code changed while the job waited, or does not repeat itself "
            "(llm.now(), llm.random(), llm.gather() and llm.step() do); `overnight retry` runs the job again, and "
            "takes over what still fits",
        )

    def body(self, entry: Entry) -> bytes:
        """An entry's body."""
        return self.record.bodies[entry.position]

    @property
    def given_up(self) -> Mapping[str, float]:
        """The positions of calls and steps that the agent gave up, and the seconds after which it did."""
        return self.record.given_up

    def give_up(self, position: str, seconds: float) -> None:
        """Note that the agent gave a call or step up after `seconds`; the next write to the journal includes it."""
        self.record.given_up[position] = self._unwritten[position] = round(seconds, 3)

    async def write(
        self, position: str, entry: Entry, body: bytes, *, settlement: bytes = b"", calls: int = 0, throttles: int = 0
    ) -> tuple[Entry, str]:
        """Write an entry and settle its reservation in one step; returns the entry and the batch's status ('' if none).

        Superseded if another delivery has taken the job over: then only the reservation is settled.
        """
        if len(body) > LARGE:
            try:
                entry = replace(entry, file=await self.stored.write(position, body))
            except StorageError as exc:
                self.refused = str(exc)
        keys = (self.keys.clock, self.key, *self._lease_keys())
        given_up, self._unwritten = self._unwritten, {}
        args: tuple[str | bytes | int, ...] = (
            *(0, settlement, self.owner, position, entry.head(), b"" if entry.file else body),
            *(entry.cost, entry.input_tokens, entry.output_tokens, calls, throttles, self.job.round),
            *(self.job.number if self.job.batch else "", *_pairs(given_up)),
        )
        verdict, status = await self.server.run(
            Call(load("tasks/agents/lua/journal.lua"), keys, args, _texts), WRITE_PATIENCE
        )
        if verdict == "lost":
            await self.stored.drop(*([entry.file] if entry.file else []))
            raise Superseded
        entry = self.record.entries[position] = replace(entry, position=position)
        self.record.bodies[position] = body
        self.record.open.pop(position, None)
        self.record.cost += entry.cost
        self.record.calls += calls
        return entry, status

    async def snooze(self, seconds: float, reason: str, states: Mapping[str, Mapping[str, int]]) -> None:
        """Write why the job goes back into its queue, and the state of its open calls."""
        wait = orjson.dumps({"reason": reason, "until": time.time() + seconds, "seconds": round(seconds, 3)})
        pairs: list[str | bytes] = [
            part for position, state in states.items() for part in (f"o:{position}", orjson.dumps(state))
        ]
        pairs += _pairs({f"g:{position}": seconds for position, seconds in self._unwritten.items()})
        line = self.job.number if self.job.batch else ""
        lifetime = math.ceil(seconds) + KEEP_BATCH
        args: tuple[str | bytes | int, ...] = (self.owner, line, lifetime, wait, *pairs)
        keys = (self.key, *self._lease_keys())
        await self.server.run(Call(load("tasks/agents/lua/journal_wait.lua"), keys, args, bool))

    async def close(self) -> None:
        """The job has ended: delete its answers. Without a batch, the journal expires a day later."""
        names = [entry.file for entry in self.record.entries.values() if entry.file]
        args = (self.job.round, "" if self.job.batch else KEEP_JOB, *self.record.entries)
        await self.server.run(Call(load("tasks/agents/lua/close_journal.lua"), (self.key,), args, bool))
        await self.stored.drop(*names)

    def _lease_keys(self) -> tuple[str, ...]:
        if self.job.batch:
            return self.keys.batch(self.job.batch), self.keys.job_owners(self.job.batch)
        return (self.keys.job(self.job.id),)


def _pairs(given_up: Mapping[str, float]) -> list[str]:
    return [part for position, seconds in given_up.items() for part in (position, str(seconds))]


def _named(kind: str, name: str) -> str:
    return f"a call of {name}" if kind == "call" else f"step {name!r}"


def _record(reply: Any) -> Record:
    pairs = cast("list[bytes]", reply)
    return read(dict(zip(pairs[::2], pairs[1::2], strict=True)))


_texts: Callable[[Any], tuple[str, str]] = lambda reply: (reply[0].decode(), reply[1].decode())  # noqa: E731
