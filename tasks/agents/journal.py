"""What an agent's job has done: a hash in Redis, an entry a finished call or step.

    round, born, began      the job's round; when its first round began, and when this one did (µs)
    cost, calls, …          sums of this round: n$, requests sent, tokens, 429s
    e:<position>            an entry's head, JSON: what was asked (as a digest), what it took, how it ended
    b:<position>            its body: the result line of a call, the JSON that a step returned; large ones are files
    o:<position>            what a call that is not finished has behind it, as a job's message would remember it
    g:<position>            after how many seconds the agent gave this call or step up; it does in every replay
    wait, waits             why the job is in its queue and until when, JSON; how often it was

Whoever writes holds the job's lease. A journal lives as long as its batch; without one, for a month after its job was
last seen or was to come back, and for a day after the job's end. When a job has succeeded, its answers go, and the
story stays. A failed job keeps all: a new round takes over what still fits.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, cast

import orjson
import redis

from limits.client.async_connection import AsyncServer
from limits.client.scripts import Call, load
from limits.keys import Keys
from tasks.agents.errors import Halted, Superseded
from tasks.agents.position import order
from tasks.agents.stored_bodies import LARGE, Blobs, Lost
from tasks.jobs.job import Job
from tasks.jobs.storage import StorageError
from tasks.jobs.store import KEEP_BATCH, KEEP_JOB

#: Seconds for which the end of a call is tried to be written: it is paid for, and is in no other place.
PATIENCE: Final = 3_600.0

_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished call or step.

    `kind` is call or step; `name` the model that was asked for, or the step's. `digest` stands for all that was
    asked. `at` is when it ended, in seconds since the epoch. `cost` in n$. `code` is the error's, where it failed.
    `file` is the name of the file that holds its body, where that is large.
    """

    kind: str
    name: str
    digest: str
    round: int
    ok: bool
    at: float
    seconds: float
    cost: int = 0
    target: str = ""
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    code: str = ""
    file: str = ""
    position: str = ""

    def head(self) -> bytes:
        """As it stands in the journal."""
        return orjson.dumps({name: value for name in _HEAD if (value := getattr(self, name)) != ""})


_FIELDS: Final = frozenset(each.name for each in fields(Entry))
_HEAD: Final = tuple(each.name for each in fields(Entry) if each.name != "position")


@dataclass(slots=True)
class Record:
    """A journal as it was read, its entries in the order of the agent's code.

    Times in seconds since the epoch, money in n$.
    """

    round: int = 0
    born: float = 0.0
    began: float = 0.0
    cost: int = 0
    calls: int = 0
    throttled: int = 0
    waits: int = 0
    wait: dict[str, Any] | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    open: dict[str, dict[str, int]] = field(default_factory=dict)
    given_up: dict[str, float] = field(default_factory=dict)


def read(found: Mapping[bytes, bytes]) -> Record:
    """The journal that a hash holds."""
    record = Record()
    for key, value in found.items():
        name, _, position = key.decode().partition(":")
        match name:
            case "round" | "cost" | "calls" | "throttled" | "waits":
                setattr(record, name, int(value))
            case "born" | "began":
                setattr(record, name, int(value) / _MICRO)
            case "wait":
                record.wait = orjson.loads(value)
            case "e":
                known = {key: value for key, value in orjson.loads(value).items() if key in _FIELDS}
                record.entries[position] = Entry(**{**known, "position": position})
            case "b":
                record.bodies[position] = value
            case "o":
                record.open[position] = orjson.loads(value)
            case "g":
                record.given_up[position] = float(value)
    record.entries = dict(sorted(record.entries.items(), key=lambda item: order(item[0])))
    return record


def key_of(keys: Keys, job: Job) -> str:
    """The key of a job's journal."""
    return keys.journal(job.batch, job.number) if job.batch else keys.job_journal(job.id)


def spent(client: redis.Redis, keys: Keys, found: Sequence[Job]) -> dict[int, tuple[int, int]]:
    """What the jobs of a batch have behind them in this round, by their line: n$ and calls. None that never ran."""
    pipeline: Any = client.pipeline(transaction=False)
    for job in found:
        pipeline.hmget(key_of(keys, job), "round", "cost", "calls")
    sums = {}
    for job, (round_, cost, calls) in zip(found, pipeline.execute(), strict=True):
        if round_ is not None and int(round_) == job.round:
            sums[job.number] = (int(cost), int(calls))
    return sums


class Journal:
    """The journal of one job, in the hands of one delivery. `refused` is why the storage did not take an answer."""

    def __init__(self, server: AsyncServer, keys: Keys, job: Job, owner: str, storage: str, record: Record) -> None:
        self.server = server
        self.keys = keys
        self.key = key_of(keys, job)
        self.job = job
        self.owner = owner
        self.blobs = Blobs(storage, job, owner)
        self.record = record
        self.refused = ""
        self._unwritten: dict[str, float] = {}

    @classmethod
    async def open(cls, server: AsyncServer, keys: Keys, job: Job, owner: str, storage: str) -> "Journal":
        """Begin the job's journal, or read what is in it."""
        lifetime = KEEP_BATCH
        if job.batch:
            lifetime += max(0, round(job.deadline - time.time()))
        script = load("tasks/agents/lua/open_journal.lua")
        record = await server.run(Call(script, (key_of(keys, job),), (job.round, lifetime, ""), _record))
        return cls(server, keys, job, owner, storage, record)

    async def load(self) -> None:
        """Read the answers that are files; StorageError if the storage reads or takes none for now.

        Halted if one is gone for good. Of an earlier round's, that call is made again.
        """
        bodies = self.record.bodies
        for position, entry in self.record.entries.items():
            if not entry.file and len(bodies.get(position, b"")) > LARGE:
                # The storage has refused this one: it is tried before the next call brings another.
                await self.blobs.drop(await self.blobs.keep(position, bodies[position]))
            elif entry.file and (entry.round == self.job.round or entry.ok):
                try:
                    bodies[position] = await self.blobs.read(entry.file)
                except Lost as lost:
                    if entry.round == self.job.round:
                        words = f"an answer of its journal is gone: {lost}; `overnight retry` makes that call again"
                        raise Halted("answer_lost", words) from lost

    def find(self, position: str, kind: str, name: str, asked: str) -> Entry | None:
        """The entry at a position, None if there is none; Halted if something else was asked there.

        What an earlier round has left is taken over if it fits and was a success.
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
            f"at position {position} of its journal this job has {_shown(entry.kind, entry.name)}, and the agent now "
            f"asks for {_shown(kind, name)}{other}: its code changed while the job waited, or does not repeat itself "
            "(llm.now(), llm.random(), llm.gather() and llm.step() do); `overnight retry` runs the job again, and "
            "takes over what still fits",
        )

    def body(self, entry: Entry) -> bytes:
        """The body of an entry."""
        return self.record.bodies[entry.position]

    @property
    def given_up(self) -> Mapping[str, float]:
        """The positions whose calls and steps the agent has given up, and after how many seconds."""
        return self.record.given_up

    def give_up(self, position: str, seconds: float) -> None:
        """Note that the agent waits no more for a call or step; written with whatever is written next."""
        self.record.given_up[position] = self._unwritten[position] = round(seconds, 3)

    async def write(
        self, position: str, entry: Entry, body: bytes, *, settlement: bytes = b"", calls: int = 0, throttles: int = 0
    ) -> tuple[Entry, str]:
        """Write an entry, and settle its money in the same step; the entry, and the batch's status, '' without one.

        Superseded if another delivery has taken the job over: the money is settled, and the entry is not ours.
        """
        if len(body) > LARGE:
            try:
                entry = replace(entry, file=await self.blobs.keep(position, body))
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
            Call(load("tasks/agents/lua/journal.lua"), keys, args, _texts), PATIENCE
        )
        if verdict == "lost":
            await self.blobs.drop(*([entry.file] if entry.file else []))
            raise Superseded
        entry = self.record.entries[position] = replace(entry, position=position)
        self.record.bodies[position] = body
        self.record.open.pop(position, None)
        self.record.cost += entry.cost
        self.record.calls += calls
        return entry, status

    async def put_off(self, seconds: float, reason: str, states: Mapping[str, Mapping[str, int]]) -> None:
        """Note why the job goes back into its queue, and what its open calls have behind them."""
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
        """The job has ended: let its answers go, and without a batch its journal a day later."""
        names = [entry.file for entry in self.record.entries.values() if entry.file]
        args = (self.job.round, "" if self.job.batch else KEEP_JOB, *self.record.entries)
        await self.server.run(Call(load("tasks/agents/lua/close_journal.lua"), (self.key,), args, bool))
        await self.blobs.drop(*names)

    def _lease_keys(self) -> tuple[str, ...]:
        if self.job.batch:
            return self.keys.batch(self.job.batch), self.keys.job_owners(self.job.batch)
        return (self.keys.job(self.job.id),)


def _pairs(given_up: Mapping[str, float]) -> list[str]:
    return [part for position, seconds in given_up.items() for part in (position, str(seconds))]


def _shown(kind: str, name: str) -> str:
    return f"a call of {name}" if kind == "call" else f"step {name!r}"


def _record(reply: Any) -> Record:
    pairs = cast("list[bytes]", reply)
    return read(dict(zip(pairs[::2], pairs[1::2], strict=True)))


_texts: Callable[[Any], tuple[str, str]] = lambda reply: (reply[0].decode(), reply[1].decode())  # noqa: E731
