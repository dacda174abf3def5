"""A real Valkey and a folder for the tests of feed, collect and ticks. There are no workers: the test plays them."""

import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from limits.client.connection import Server
from limits.keys import Keys
from tasks.batches import chunk_steps
from tasks.batches.batch import Batch
from tasks.batches.collect import collect
from tasks.batches.duplicates import Duplicates
from tasks.batches.feed import Row, feed
from tasks.batches.files import INPUT, errors_name, output_names
from tasks.batches.store import Store
from tasks.jobs import job as jobs
from tasks.jobs.job import Job
from tasks.jobs.proof import proof
from tasks.jobs.storage import open_files
from tasks.jobs.store import Outcome, begin
from tests.simulator import Simulator
from tests.support.lane import publishing_to
from tests.support.valkey import own_valkey


@pytest.fixture(scope="session")
def port() -> Iterator[int]:
    with own_valkey() as server:
        yield server.port


@pytest.fixture
def world(port: int, tmp_path: Path) -> Iterator["World"]:
    made = World(port, tmp_path)
    made.store.client.flushall()
    try:
        yield made
    finally:
        end_children()
    made.assert_no_key_lives_forever()
    made.store.client.close()


@pytest.fixture(scope="module")
def provider() -> Iterator[Simulator]:
    with Simulator() as made:
        yield made


@pytest.fixture
def simulator(world: "World", provider: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """A provider for the batch lane, whose waits are short here; tests/chaos/test_batch_lane.py has the real ones."""
    publishing_to(world, monkeypatch)
    monkeypatch.setattr(chunk_steps, "AGAIN", 0.1)
    monkeypatch.setattr(chunk_steps, "LOST_AFTER", 0.4)
    monkeypatch.setattr(chunk_steps, "HOLD_AGAIN", 0.1)
    provider.clear()
    provider.configure(batch_delay=0.1, batch_faults=[], answer_tokens=8)
    return provider


class World:
    """Batches in a folder. The queue is a list, and the test writes the results."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.folder = folder
        self.storage = f"file://{folder}/files"
        self.store = self.connect()
        self.queue: list[tuple[str, int, int]] = []
        self.messages: int | None = None

    def connect(self) -> Store:
        """A store with a connection of its own: a forked child must not share its parent's."""
        return Store(Keys("test"), Server(redis.Redis(port=self.port)))

    def batch(
        self, lines: int, *, name: str = "batch_1", deadline: float = 3600.0, text: str = "", distinct: int = 0
    ) -> Batch:
        """A batch of `lines` lines; with `distinct`, those after so many repeat them in turn."""
        every = [input_line(number, f"{number % distinct}" if distinct else text) for number in range(1, lines + 1)]
        content = "".join(json.dumps(line) + "\n" for line in every).encode()
        files = open_files(self.storage, name)
        Path(files.folder).mkdir(parents=True)
        with Duplicates() as duplicates:
            if distinct:
                for number, line in enumerate(every, 1):
                    duplicates.add(number, jobs.Line(line["custom_id"], line["url"], line["body"]), ["acme/small"])
                duplicates.save(files)
        Path(files.path(INPUT)).write_bytes(content)
        now = time.time()
        batch = Batch(
            id=name,
            workflow="nightly",
            name="in.jsonl",
            status="in_progress",
            total=lines,
            copies=duplicates.count,
            bytes=len(content),
            storage=self.storage,
            created=now,
            began=now,
            deadline=now + deadline,
        )
        return self.store.create(batch)[0]

    def now(self, batch: Batch) -> Batch:
        found = self.store.batch(batch.id)
        assert found is not None
        return found

    def feed(self, batch: Batch) -> list[int]:
        """One tick of feed; the lines that it has handed out."""
        before = len(self.queue)
        feed(self.store, self.now(batch), self.publish, lambda _: self.messages)
        return [line for _, line, _ in self.queue[before:]]

    def publish(self, batch: Batch, rows: list[Row]) -> None:
        self.queue += [(batch.id, row.number, batch.round) for row in rows]

    def begin(self, batch: Batch, line: int, *, round_: int | None = None, owner: str = "me") -> str:
        return self.store.server.run(begin(self.store.keys, self.job(batch, line, round_), owner)).verdict

    def job(self, batch: Batch, line: int, round_: int | None = None) -> Job:
        number = self.now(batch).round if round_ is None else round_
        proved = proof(self.now(batch).token, line, number)
        return Job(jobs.Line(f"job-{line}", "", {}), "", batch.workflow, batch.id, line, number, proof=proved)

    def finish(self, batch: Batch, *lines: int, ok: bool = True, round_: int | None = None, pad: int = 0) -> None:
        """End these lines, as a worker does."""
        steps = []
        for line in lines:
            job = self.job(batch, line, round_)
            steps.append((job, Outcome(ok=ok, line=result_line(line, job.round, ok=ok, pad=pad), cost=10)))
        self.store.finish_many(steps)

    def collect(self, batch: Batch) -> Batch:
        return collect(self.store, self.now(batch))

    def output(self, batch: Batch) -> list[Any]:
        return self.lines(batch, *output_names(self.now(batch)))

    def errors(self, batch: Batch) -> list[Any]:
        return self.lines(batch, errors_name(self.now(batch)))

    def lines(self, batch: Batch, *names: str) -> list[Any]:
        raw = b"".join(self.path(batch, name).read_bytes() for name in names)
        return [json.loads(line) for line in raw.splitlines()]

    def path(self, batch: Batch, name: str) -> Path:
        return Path(open_files(self.storage, batch.id).path(name))

    def assert_no_key_lives_forever(self) -> None:
        for key in self.store.client.scan_iter(count=1000):
            if key != self.store.keys.queues.encode():
                assert self.store.client.ttl(key) != -1, f"{key!r} has no lifetime"


def input_line(number: int, text: str = "") -> dict[str, Any]:
    return {
        "custom_id": f"job-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "small", "messages": [{"role": "user", "content": text or f"number {number}"}]},
    }


def result_line(line: int, round_: int, *, ok: bool, pad: int = 0) -> bytes:
    body = {"round": round_, "pad": "x" * pad}
    return jobs.encode(
        jobs.result_line(
            f"batch_req_{line}",
            f"job-{line}",
            response={"status_code": 200, "body": body} if ok else None,
            error=None if ok else jobs.error_object("broken", f"in round {round_}{'x' * pad}"),
            report={"provider": "acme", "model": "small", "attempts": 1, "cost_usd": 0.1, "seconds": 2.0},
        )
    )


def in_child(act: Callable[[], None]) -> int:
    """Run `what` in a forked child, which may kill or suspend itself; returns its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException:  # noqa: BLE001 - the child must never return into the tests
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _children.add(pid)
    return pid


_children: set[int] = set()


def end_children() -> None:
    """Kill all children, also the suspended ones of a test that failed."""
    for pid in list(_children):
        os.kill(pid, signal.SIGKILL)
        ended(pid)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def continued(pid: int) -> None:
    """Let a suspended child go on."""
    os.kill(pid, signal.SIGCONT)


def ended(pid: int) -> int:
    """Wait for a child to end; returns the signal that ended it, 0 if none."""
    _, status = os.waitpid(pid, 0)
    _children.discard(pid)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)


def is_stopped(pid: int) -> None:
    """Wait until a child has suspended itself."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
