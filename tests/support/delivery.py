"""Deliveries of jobs without Celery around them: the worker's own way, on a real server and a real provider.

    with Desk(server_url, simulator, toml) as desk:
        first = desk.deliver(job(1))
        assert first.line["overnight"]["attempts"] == 1
        assert desk.snapshot().buckets[0].paused_until == 0

Each desk has a namespace of its own. `desk.all(...)` delivers several jobs at once. Nothing runs in the background:
no lease is renewed and no ratio shared unless a test does it. Each delivery finds all gates open, as in a worker that
has just started.
"""

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import redis

import tasks.agents.runner  # noqa: F401 - registers the runner of agents
from limits.client.connection import Server
from limits.client.scripts import Call
from limits.keys import Keys
from limits.snapshot import Snapshot, snapshot
from tasks.agents.journal import key_of
from tasks.agents.journal_record import Record, read
from tasks.jobs import run as run_job
from tasks.jobs.delivery import Delivery as JobDelivery
from tasks.jobs.job import Job, check
from tasks.jobs.runtime import Runtime
from tasks.jobs.state import JobState
from tasks.monitoring import costs, limits
from tasks.monitoring.costs import Spent
from workers.config.settings import load
from workers.models import budgets
from workers.pool.threads import Loop
from workers.request import Snooze
from workers.transport.gates import Gates

T = TypeVar("T")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one delivery of a job ended: with a result line, or with a snooze. `state` is what it remembers."""

    line: dict[str, Any] | None
    snooze: Snooze | None
    state: JobState

    @property
    def answered(self) -> bool:
        return self.line is not None and self.line["error"] is None

    @property
    def failure(self) -> str:
        """The error code of a job that failed, '' otherwise."""
        return str(self.line["error"]["code"]) if self.line is not None and self.line["error"] else ""


class Desk:
    """One configuration and the worker's code over it, on an event loop of its own."""

    def __init__(self, folder: Path, url: str, toml: str, *, workflow: str = "nightly") -> None:
        self.namespace = f"desk{next(_numbers)}"
        file = folder / f"{self.namespace}.toml"
        file.write_text(f'redis_url = "{url}"\nnamespace = "{self.namespace}"\n{toml}')
        self.settings = load(file)
        self.keys = Keys(self.namespace)
        self.client = redis.Redis.from_url(url)
        self.server = Server(self.client)
        self.workflow = workflow
        self.loop = Loop()
        self.runtime = self.wait(self._open())

    async def _open(self) -> Runtime:
        return Runtime(self.settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wait(self.runtime.close())
        self.loop.close()
        self.client.close()
        if kind is None:
            waitlists = self.runtime.waitlists
            assert not waitlists._throttled, "a throttled call was never settled"
            assert not any(each.calls._starting for each in waitlists._all()), "a finished job still counts as starting"
            assert not any(each.waiters for each in waitlists._all()), "a finished job still waits"

    def wait(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(doing)

    def deliver(self, line: dict[str, Any], **more: Any) -> Delivery:
        """One delivery of a job."""
        self.open_gates()
        return self.wait(self.delivery(line, **more))

    def all(self, *lines: dict[str, Any], **more: Any) -> list[Delivery]:
        """Deliveries of several jobs at once."""
        self.open_gates()

        async def everything() -> list[Delivery]:
            return list(await asyncio.gather(*(self.delivery(line, **more) for line in lines)))

        return self.wait(everything())

    def open_gates(self) -> None:
        self.runtime.gates = Gates()

    async def delivery(
        self, line: dict[str, Any], *, state: JobState | None = None, deadline: float = 0.0, workflow: str = ""
    ) -> Delivery:
        return await self.deliver_job(self.job(line, deadline=deadline, workflow=workflow), state)

    def job(self, line: dict[str, Any], *, deadline: float = 0.0, workflow: str = "") -> Job:
        """A single job, which may be delivered again and again."""
        checked, problems = check(line)
        assert checked is not None, problems
        return Job(checked, f"{line['custom_id']}-{next(_numbers)}", workflow or self.workflow, deadline=deadline)

    async def deliver_job(self, job: Job, state: JobState | None = None) -> Delivery:
        """One delivery; `state` is what the one before remembers."""
        state = JobState.from_header(state.to_header() if state else None)
        try:
            return Delivery(await run_job.run(JobDelivery(self.runtime, job, state)), None, state)
        except Snooze as snooze:
            return Delivery(None, snooze, state)

    async def end_pause(self, model: str = "acme/0/small") -> None:
        """As if the wait that a 429 asked for had passed."""
        await self.runtime.client.delete(self.keys.bucket(model))

    async def journal(self, job: Job) -> Record:
        """What the journal of an agent's job holds."""
        return read(await self.runtime.client.hgetall(key_of(self.keys, job)))

    # What is left behind

    def run(self, call: Call[T]) -> T:
        return self.server.run(call)

    def snapshot(self) -> Snapshot:
        """Every bucket, circuit, account and budget of the configuration."""
        accounts = list(limits.accounts(self.settings))
        buckets = dict(bucket for route in self.routes() for bucket in route.buckets)
        return self.run(
            snapshot(
                self.keys,
                list(buckets.items()),
                list({route.circuit: None for route in self.routes()}),
                [*accounts, *limits.scopes(accounts, limits.targets(self.settings))],
                list(self.windows()),
            )
        )

    def routes(self) -> list[Any]:
        names = [f"{provider}/{model}" for provider, model in limits.targets(self.settings)]
        return [route for name in names for route in self.runtime.routes.find(name, "/v1/chat/completions")]

    def windows(self) -> list[Any]:
        return list(budgets.windows(self.settings, self.workflow, None, self.now()))

    def now(self) -> float:
        seconds, micros = self.client.time()
        return float(seconds + micros / 1e6)

    def set_clock(self, seconds: float) -> None:
        """The scripts' clock never runs backwards: set ahead of the server's time, it stands still there."""
        self.client.set(self.keys.clock, round(seconds * 1e6))

    def spent(self) -> Spent:
        """The ledger's sum of today."""
        return costs.read(self.server, self.keys, costs.since("1d", costs.today())).total
