"""Deliveries of jobs without a broker: the runtime, the server and the provider are real, and a test is the queue.

    async with deliveries(site) as queue:
        job = queue.job(line("chain", calls=3))
        with pytest.raises(Snooze): await queue.deliver(job)
        result = await queue.deliver(job)

For what happens between two deliveries, whose moment a test must choose.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from tasks.agents import registry
from tasks.agents.journal import Record, key_of, read
from tasks.job import Job, received
from tasks.memory import Memory
from tasks.run_job import run
from tasks.runtime import Runtime
from tests.site import Line, Site
from workers.request import Snooze
from workers.settings import load


class Queue:
    """What the tests deliver from."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.headers: dict[str, dict[str, Any]] = {}

    def job(self, line: Line, workflow: str = "nightly") -> Job:
        """A single job."""
        job, problem = received((), {"job": line}, task_id=uuid4().hex, workflow=workflow)
        assert not problem, problem
        return job

    async def deliver(self, job: Job) -> dict[str, Any]:
        """One delivery: the job's result line, or Snooze."""
        memory = Memory.from_header(self.headers.get(job.id))
        try:
            line = await run(self.runtime, job, memory)
        except Snooze as snooze:
            self.headers[job.id] = snooze.memory
            raise
        assert line is not None
        return line

    async def journal(self, job: Job) -> Record:
        """What the job's journal holds."""
        return read(await self.runtime.client.hgetall(key_of(self.runtime.keys, job)))  # type: ignore[misc]


@asynccontextmanager
async def deliveries(site: Site) -> AsyncIterator[Queue]:
    """A worker's runtime in this process."""
    before = dict(os.environ)
    os.environ.update(site.environment)
    try:
        settings = load(site.file)
        registry.load(settings)
        runtime = Runtime(settings)
        try:
            yield Queue(runtime)
        finally:
            await runtime.close()
    finally:
        os.environ.clear()
        os.environ.update(before)
