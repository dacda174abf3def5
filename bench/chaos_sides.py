"""The two systems that bench/chaos.py disturbs: Overnight as anyone runs it, and stock Celery."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import redis
from celery import Celery

from limits.client.connection import Server
from tasks.batches.store import Store
from tests.simulator import Simulator
from tests.support.site import Site, job, jobs, wait_for
from workers.embedded import EmbeddedServer, address, celery_url

ROOT = Path(__file__).resolve().parents[1]
CONTENDERS = ROOT / "bench" / "contenders"
PYTHON = Path(os.environ.get("CONTENDERS_PYTHON", ROOT / ".venv" / "contenders" / "bin" / "python"))

WORKERS, CONCURRENCY = 3, 16


class Side(Protocol):
    """One of the two systems under the same disturbances."""

    name: str
    workers: "list[subprocess.Popen[bytes]]"

    def start(self) -> None: ...
    def start_worker(self) -> "subprocess.Popen[bytes]": ...
    def submit(self, count: int) -> None: ...
    def done(self) -> int: ...
    def unique(self) -> int: ...
    def url(self) -> str: ...
    def redis_pid(self) -> int: ...
    def send(self, number: int, countdown: float) -> Any: ...
    def stop(self) -> None: ...


class Overnight:
    """Overnight, as anyone runs it."""

    name = "Overnight"

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.site = Site(folder, simulator)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.batch = ""

    def start(self) -> None:
        for _ in range(WORKERS):
            self.start_worker()
        wait_for(lambda: all(worker.ready() for worker in self.site.workers), 60)
        self.store = Store(self.site.keys, Server(self.site.client()))
        self.plain = Celery(
            "plain",
            broker=celery_url(self.url()),
            backend=celery_url(self.url()),
            broker_transport="kombu.transport.redis:Transport",
        )

    def start_worker(self) -> "subprocess.Popen[bytes]":
        worker = self.site.start_worker(concurrency=CONCURRENCY, ready=False).process
        self.workers = [one for one in self.workers if one.poll() is None] + [worker]
        return worker

    def submit(self, count: int) -> None:
        self.batch = self.site.submit(jobs(count), workflow="chaos")

    def done(self) -> int:
        found = self.store.batch(self.batch)
        return found.completed if found else 0

    def unique(self) -> int:
        """Lines of the output, each custom_id counted once and only if it is there once."""
        self.site.wait(self.batch, 120)
        lines, _ = self.site.results(self.batch)
        return sum(count == 1 for count in Counter(line["custom_id"] for line in lines).values())

    def url(self) -> str:
        return address(self.site.folder / ".overnight" / "redis")  # no port: that is lost when the server is killed

    def redis_pid(self) -> int:
        return self.site.redis_pid()

    def send(self, number: int, countdown: float) -> Any:
        return self.plain.send_task(
            "overnight.job", kwargs={"job": job(number)}, queue="workflow.plain", countdown=countdown
        )

    def stop(self) -> None:
        self.site.__exit__(None, None, None)


class Stock:
    """Celery as it is usually set up for this work."""

    name = "Celery, its own transport, acks_late, gevent"

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.site = Site(folder, simulator)
        self.simulator = simulator
        self.workers: list[subprocess.Popen[bytes]] = []
        self.results: list[Any] = []

    def start(self) -> None:
        self.server = EmbeddedServer(self.site.folder / ".overnight")  # runs while this process uses it
        self.keeper = redis.Redis.from_url(self.server.url)
        self.keeper.ping()
        self.environment = {
            **os.environ,
            "BENCH_REDIS": celery_url(self.url()),
            "BENCH_PROVIDER": self.simulator.base_url,
        }
        for _ in range(WORKERS):
            self.start_worker()
        self.plain = Celery(
            "plain",
            broker=celery_url(self.url()),
            backend=celery_url(self.url()),
            broker_transport="kombu.transport.redis:Transport",
        )
        time.sleep(8)

    def start_worker(self) -> "subprocess.Popen[bytes]":
        number = len(self.workers)
        worker = subprocess.Popen(
            [
                *(str(PYTHON), "-m", "celery", "-A", "stock", "worker", "-P", "gevent", "-c", str(CONCURRENCY)),
                *("-n", f"stock-{number}-{time.monotonic_ns()}@%h", "-l", "ERROR", "--without-mingle"),
                "--without-gossip",
            ],
            cwd=CONTENDERS,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.workers = [one for one in self.workers if one.poll() is None] + [worker]
        return worker

    def submit(self, count: int) -> None:
        for number in range(1, count + 1):
            self.results.append(self._publish(number, None))

    def _publish(self, number: int, countdown: float | None) -> Any:
        body = job(number)["body"]
        return self.plain.send_task("stock.call", args=(body,), queue="stock", countdown=countdown)

    def done(self) -> int:
        found = self.keeper.mget([f"celery-task-meta-{result.id}" for result in self.results])
        return sum(b'"SUCCESS"' in (one or b"") for one in found)

    def unique(self) -> int:
        return self.done()

    def url(self) -> str:
        return address(self.site.folder / ".overnight" / "redis")  # no port: that is lost when the server is killed

    def redis_pid(self) -> int:
        return self.site.redis_pid()

    def send(self, number: int, countdown: float) -> Any:
        return self._publish(number, countdown)

    def stop(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
                worker.wait()


SIDES: dict[str, Callable[[Path, Simulator], Side]] = {"overnight": Overnight, "stock": Stock}
