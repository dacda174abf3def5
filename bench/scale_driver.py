"""One driver of `bench/scale.py`: workers without HTTP, each with connections of its own, in one process.

A worker here does to Redis what a real one does for a job: claim, begin, admit, finish, acknowledge, events. Messages,
scripts and the way that commands are gathered are the real ones. What it leaves out never reaches Redis.

    python bench/scale_driver.py URL WORKERS PLACES PREFIX      then a line on standard input starts it, another ends it
"""

import asyncio
import sys
from base64 import b64decode
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # instead of this folder, whose `workers` is another

from bench.admission import BUDGETS, CANDIDATE, TRUTH  # noqa: E402 - the repository is not on the path of a script
from limits.admission import admit  # noqa: E402
from limits.client.async_connection import AsyncServer  # noqa: E402
from limits.encoding import settlement_json  # noqa: E402
from limits.keys import Keys  # noqa: E402
from limits.reservation import Admitted, Ask  # noqa: E402
from tasks.jobs import job as jobs  # noqa: E402
from tasks.jobs import store  # noqa: E402
from tasks.jobs.job import Job  # noqa: E402
from tasks.jobs.store import Outcome  # noqa: E402
from workers.celery import app  # noqa: E402
from workers.event_batches import EVERY, MAX_EVENTS, SERIALIZER  # noqa: E402
from workers.transport.broker import Broker, Source  # noqa: E402
from workers.transport.fetch import MAX_CLAIM  # noqa: E402
from workers.transport.in_flight import GATHER  # noqa: E402
from workers.transport.message import parse  # noqa: E402
from workers.transport.queues import queue_name  # noqa: E402
from workers.transport.unsent import STEP  # noqa: E402

WORKFLOW = "bench"
QUEUE = queue_name(WORKFLOW)
KEYS = Keys("overnight")
BROKER = Broker(KEYS)

#: Seconds until a worker that found its queue empty claims again.
EMPTY = 0.01

#: What a chat's answer of 30 tokens is as an output line, about.
ANSWER = {"status_code": 200, "request_id": "req-1", "body": {"choices": [{"message": {"content": "word " * 60}}]}}


def received(tag: str, raw: bytes) -> Job:
    """The job in a claimed message, as a worker reads it."""
    message = parse(raw, tag, QUEUE)
    args, kwargs, _ = orjson.loads(b64decode(message["body"]))
    headers = message["headers"]
    job, problem = jobs.received(args, kwargs, task_id=headers["id"], workflow=WORKFLOW, headers=headers)
    assert not problem, problem
    return job


class Events:
    """Celery's events of the jobs of one worker, over the connection of its process."""

    def __init__(self, connection: Any, name: str) -> None:
        self.dispatcher = app.events.Dispatcher(
            connection, hostname=name, buffer_group={"task"}, buffer_limit=MAX_EVENTS
        )
        self.dispatcher.serializer = SERIALIZER

    def ended(self, job: Job) -> None:
        """Note the three events of a job that has run."""
        send, uuid = self.dispatcher.send, job.task_id
        send("task-received", uuid=uuid, name="overnight.job", args="()", kwargs="{}", root_id=uuid, retries=0)
        send("task-started", uuid=uuid)
        send("task-succeeded", uuid=uuid, result="…", runtime=1.0)

    def flush(self) -> None:
        """Publish what was noted."""
        self.dispatcher.flush()


class Worker:
    """What one worker asks of Redis, with `places` jobs at a time."""

    def __init__(self, url: str, places: int, name: str, connection: Any = None) -> None:
        self.jobs, self.transport = AsyncServer(url), AsyncServer(url)
        self.places, self.name = places, name
        self.events = Events(connection, name) if connection is not None else None
        self.numbers = count()
        self.running: set[asyncio.Task[None]] = set()
        self.acknowledged: list[str] = []
        self.freed = asyncio.Event()

    # The steps of a job

    async def claim(self, most: int) -> list[tuple[str, Job]]:
        """Claim up to `most` messages. Returns each tag and job."""
        number = next(self.numbers) * MAX_CLAIM
        call = BROKER.claim(
            [Source(QUEUE)], most=most, ordinary=most, owner=f"{self.name}.", number=number, with_ready=False
        )
        return [(tag, received(tag, raw)) for tag, raw in (await self.transport.run(call)).messages]

    async def begin(self, job: Job) -> None:
        """Take the job's lease."""
        begun = await self.jobs.run(store.begin(KEYS, job, self.name))
        assert begun.verdict == "run", begun

    async def admit(self, job: Job) -> None:
        """Reserve quota and money for its call."""
        ask = Ask(job.id, self.name, (CANDIDATE,), BUDGETS, send_at_once=True)
        answer = await self.jobs.run(admit(KEYS, ask))
        assert isinstance(answer, Admitted), answer

    async def finish(self, job: Job) -> None:
        """Settle the call and record the answer."""
        line = jobs.encode(
            jobs.result_line(job.result_id, job.line.custom_id, response=ANSWER, error=None, report={"attempts": 1})
        )
        closing = settlement_json(job.id, self.name, TRUTH)
        outcome = Outcome(True, line, TRUTH.amount, 200, 100, settlement=closing, reservation=job.id)
        assert (await self.jobs.run(store.finish(KEYS, job, outcome, calls=1))).counts

    async def acknowledge(self, tags: Sequence[str]) -> None:
        """Forget messages."""
        for start in range(0, len(tags), STEP):
            await self.transport.run(BROKER.acknowledge(tags[start : start + STEP]))

    # All of them together

    async def run_job(self, tag: str, job: Job) -> None:
        await self.begin(job)
        await self.admit(job)
        await self.finish(job)
        self.acknowledged.append(tag)
        if self.events is not None:
            self.events.ended(job)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self.running.discard(task)
        self.freed.set()
        task.result()

    async def consume(self) -> None:
        """Claim whenever there is a free place, and run what was claimed."""
        while True:
            free = min(MAX_CLAIM, self.places - len(self.running))
            claimed = await self.claim(free) if free else []
            for tag, job in claimed:
                task = asyncio.create_task(self.run_job(tag, job))
                self.running.add(task)
                task.add_done_callback(self._ended)
            if free and not claimed:
                await asyncio.sleep(EMPTY)
            elif not free:
                self.freed.clear()
                await self.freed.wait()

    async def gather_acknowledgements(self) -> None:
        """As the thread of a worker does."""
        while True:
            await asyncio.sleep(GATHER)
            tags, self.acknowledged = self.acknowledged, []
            await self.acknowledge(tags)

    async def publish_events(self) -> None:
        """As a worker does."""
        while self.events is not None:
            await asyncio.sleep(EVERY)
            self.events.flush()

    async def close(self) -> None:
        """Acknowledge the last messages and close the connections."""
        await self.acknowledge(self.acknowledged)
        await self.jobs.aclose()
        await self.transport.aclose()


async def drive(url: str, number: int, places: int, prefix: str) -> None:
    """Run `number` workers from the first line on standard input to the second."""
    with app.connection_for_write() as connection:
        workers = [Worker(url, places, f"{prefix}{index}", connection) for index in range(number)]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        loops = [
            asyncio.create_task(loop)
            for each in workers
            for loop in (each.consume(), each.gather_acknowledgements(), each.publish_events())
        ]
        ends = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
        done, _ = await asyncio.wait([ends, *loops], return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
        for loop in loops:
            loop.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*loops)
        for each in workers:
            await each.close()


if __name__ == "__main__":
    asyncio.run(drive(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
