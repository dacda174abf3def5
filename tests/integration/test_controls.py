"""Every control that Flower offers for a worker, through Flower's HTTP API, on our pool: each does what it says."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from limits.client.connection import Server
from tasks.batches.batch import ENDED, Batch
from tasks.batches.store import Store
from tests.simulator import Simulator
from tests.support.site import Site, Worker, job, jobs, wait_for
from workers.transport.envelope import JOB

pytestmark = pytest.mark.long

QUEUE = "workflow.default"


class Flower:
    """Flower as a process, spoken to as its own pages do."""

    def __init__(self, site: Site) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = (site.folder / "flower.log").open("wb")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "tests.support.tasks", "flower"),
                "--address=127.0.0.1",
                f"--port={port}",
            ],
            cwd=site.folder,
            env={**site.environment, "FLOWER_UNAUTHENTICATED_API": "true"},
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()

    def ask(self, path: str, **fields: Any) -> Any:
        """GET without fields, else POST."""
        data = urllib.parse.urlencode(fields).encode() if fields else None
        with urllib.request.urlopen(f"{self.url}/api/{path}", data=data, timeout=10) as answer:
            return json.loads(answer.read())

    def sees(self, name: str) -> bool:
        try:
            return name in self.ask("workers?refresh=1")
        except (OSError, ValueError):
            return False

    def pool(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(f"workers?refresh=1&workername={name}")[name]["stats"]["pool"]
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site"), simulator, tables="[workflows.once]\nmax_attempts = 1") as made:
        made.start_workers(1, "-I", "tests.support.tasks", concurrency=4)
        made.start_worker("--autoscale=8,2", "-Q", "celery-only")
        yield made


@pytest.fixture(scope="module")
def flower(site: Site) -> Iterator[Flower]:
    made = Flower(site)
    try:
        wait_for(lambda: made.sees(name_of(1)) and made.sees(name_of(2)), 30, every=0.2, what="flower")
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[Celery]:
    url = site.redis_url()
    with Celery("producer", broker=url, backend=url, set_as_current=False) as made:
        made.conf.task_default_queue = QUEUE
        yield made


def name_of(number: int) -> str:
    """The Celery name of the site's worker."""
    return f"w{number}-{os.getpid()}@{socket.gethostname()}"


def send(client: Celery, name: str, *args: Any, **options: Any) -> Any:
    return client.signature(f"tests.support.tasks.{name}", args).apply_async(**options)


def running(client: Celery) -> int:
    found = client.control.inspect([name_of(1)], timeout=0.5).active() or {}
    return sum(len(requests) for requests in found.values())


def ended(site: Site, batch: str) -> Batch:
    """The batch's record as soon as it has ended."""
    store = Store(site.keys, Server(site.client()))
    found = wait_for(lambda: (record := store.batch(batch)) and record.status in ENDED and record, what="the end")
    assert isinstance(found, Batch)
    return found


def test_grow_and_shrink(flower: Flower, client: Celery) -> None:
    worker = name_of(1)
    tasks = [send(client, "sleep", 60) for _ in range(7)]
    wait_for(lambda: running(client) == 4)
    flower.ask(f"worker/pool/grow/{worker}", n=3)
    wait_for(lambda: running(client) == 7, what="seven at a time")
    assert flower.pool(worker)["max-concurrency"] == 7
    flower.ask(f"worker/pool/shrink/{worker}", n=5)
    assert flower.pool(worker)["max-concurrency"] == 2
    with pytest.raises(urllib.error.HTTPError):
        flower.ask(f"worker/pool/shrink/{worker}", n=2)
    for task in tasks:
        flower.ask(f"task/revoke/{task.id}", terminate="true")
    wait_for(lambda: running(client) == 0)
    flower.ask(f"worker/pool/grow/{worker}", n=2)


def test_revoke_with_terminate_ends_a_job(site: Site, simulator: Simulator, flower: Flower, client: Celery) -> None:
    simulator.configure(latency=60.0)
    batch = site.submit(jobs(3))
    wait_for(lambda: simulator.stats()["in_flight"] == 3)
    requests = (client.control.inspect([name_of(1)]).active() or {})[name_of(1)]
    assert len(requests) == 3
    flower.ask(f"task/revoke/{requests[0]['id']}", terminate="true")
    wait_for(lambda: simulator.stats()["in_flight"] == 2, what="the call was cut off")
    for request in requests[1:]:
        flower.ask(f"task/revoke/{request['id']}", terminate="true")
    record = ended(site, batch)
    assert (record.completed, record.failed) == (0, 3)
    _, errors = site.results(batch)
    assert {line["error"]["code"] for line in errors} == {"revoked"}
    simulator.configure(latency=0.0)


def test_time_limits(flower: Flower, client: Celery) -> None:
    name = "tests.support.tasks.sleep"
    flower.ask(f"task/timeout/{name}", workername=name_of(1), soft=0.3, hard=20)
    with pytest.raises(SoftTimeLimitExceeded):
        send(client, "sleep", 30).get(timeout=10)
    flower.ask(f"task/timeout/{name}", workername=name_of(1), hard=0.3)
    with pytest.raises(TimeLimitExceeded):
        send(client, "sleep", 30).get(timeout=10)


def test_a_soft_time_limit_is_a_failed_attempt(simulator: Simulator, client: Celery) -> None:
    simulator.configure(latency=60.0)
    sent = client.send_task(JOB, kwargs={"job": job(1)}, queue="workflow.once", soft_time_limit=0.3)
    assert sent.get(timeout=20)["error"]["code"] == "time_limit"


def test_a_hard_time_limit_puts_a_job_back(site: Site, simulator: Simulator, flower: Flower, client: Celery) -> None:
    simulator.configure(latency=60.0)
    sent = client.send_task(JOB, kwargs={"job": job(1)}, queue="workflow.again", time_limit=0.3)
    wait_for(lambda: "the hard time limit of job" in site.workers[0].said())
    simulator.configure(latency=0.0)
    waiting = wait_for(lambda: (client.control.inspect([name_of(1)]).scheduled() or {}).get(name_of(1)))
    assert waiting[0]["request"]["id"] == sent.id
    flower.ask(f"task/revoke/{sent.id}", terminate="true")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("time_limit", {"task_name": JOB, "hard": 0.05}),
        ("time_limit", {"task_name": "overnight.tick", "soft": 1}),
        ("time_limit", {"task_name": "tests.support.tasks.add", "hard": "b"}),
        ("time_limit", {"task_name": ["x"]}),
        ("rate_limit", {"task_name": JOB, "rate_limit": "1/h"}),
        ("rate_limit", {"task_name": "tests.support.tasks.add", "rate_limit": [1]}),
        ("pool_grow", {"n": 10**9}),
        ("pool_grow", {"n": -4}),
        ("pool_shrink", {"n": "x"}),
        ("revoke", {"task_id": "a\nforged line of the log"}),
        ("add_consumer", {"queue": "workflow.a b"}),
        ("cancel_consumer", {"queue": {}}),
        ("objgraph", {}),
        ("election", {"id": "x", "topic": "y"}),
    ],
)
def test_a_command_that_would_do_harm_is_refused(client: Celery, command: str, arguments: dict[str, Any]) -> None:
    (answer,) = client.control.broadcast(command, arguments, reply=True, destination=[name_of(1)], timeout=5, limit=1)
    assert "error" in answer[name_of(1)]


def test_a_pool_restart_imports_nothing(site: Site, client: Celery) -> None:
    (site.folder / "evil_module.py").write_text("open('was-here', 'w').close()")
    arguments = {"modules": ["evil_module"], "reload": True, "reloader": "x"}
    (answer,) = client.control.broadcast(
        "pool_restart", arguments, reply=True, destination=[name_of(1)], timeout=5, limit=1
    )
    assert answer == {name_of(1): {"ok": "reload started"}}
    assert send(client, "add", 1, 2).get(timeout=10) == 3
    assert not (site.folder / "was-here").exists()


def test_a_report_shows_no_password(site: Site, client: Celery) -> None:
    found = client.control.inspect([name_of(1)], timeout=5).report()[name_of(1)]["ok"]
    assert "redbeat_redis_url" in found
    assert site.redis_url().split(":")[2].split("@")[0] not in found


def test_rate_limit(flower: Flower, client: Celery) -> None:
    flower.ask("task/rate-limit/tests.support.tasks.add", workername=name_of(1), ratelimit="4/s")
    started = time.monotonic()
    assert [task.get(timeout=20) for task in [send(client, "add", n, n) for n in range(6)]] == [0, 2, 4, 6, 8, 10]
    assert time.monotonic() - started > 1.0


def test_add_and_cancel_consumer(flower: Flower, client: Celery) -> None:
    flower.ask(f"worker/queue/add-consumer/{name_of(1)}", queue="elsewhere")
    assert send(client, "add_slowly", 1, 2, queue="elsewhere").get(timeout=10) == 3
    flower.ask(f"worker/queue/cancel-consumer/{name_of(1)}", queue="elsewhere")
    left = send(client, "add_slowly", 1, 2, queue="elsewhere")
    assert send(client, "add_slowly", 3, 4).get(timeout=10) == 7
    assert not left.ready()
    flower.ask(f"worker/queue/add-consumer/{name_of(1)}", queue="elsewhere")
    assert left.get(timeout=10) == 3


def test_pool_restart_lets_what_runs_end(flower: Flower, client: Celery) -> None:
    before = send(client, "who")
    slow = send(client, "add_in", 1.5, 1, 2)
    wait_for(lambda: running(client) >= 1)
    flower.ask(f"worker/pool/restart/{name_of(1)}", nothing="")
    after = send(client, "who").get(timeout=10)
    assert slow.get(timeout=10) == 3
    assert before.get(timeout=10)["loop"] != after["loop"]
    wait_for(lambda: flower.pool(name_of(1))["loops"] == 1, what="the old loop has ended")


def test_autoscale(flower: Flower) -> None:
    worker = name_of(2)
    assert flower.pool(worker)["max-concurrency"] == 2
    flower.ask(f"worker/pool/autoscale/{worker}", min=5, max=9)
    assert flower.pool(worker)["max-concurrency"] == 5
    with pytest.raises(urllib.error.HTTPError):
        flower.ask(f"worker/pool/autoscale/{name_of(1)}", min=5, max=9)


def test_shutdown(site: Site, flower: Flower) -> None:
    worker: Worker = site.workers[1]
    flower.ask(f"worker/shutdown/{name_of(2)}", nothing="")
    assert worker.process.wait(20) == 0
