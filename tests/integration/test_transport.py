"""Workers that are killed, stopped and cut off, and producers that know nothing of Overnight: nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.simulator import Simulator
from tests.support.fixtures import simulator_fixture, site_fixture
from tests.support.site import KEY, Site, Worker, job, jobs, wait_for
from workers.transport.queues import Depth, depths

pytestmark = pytest.mark.long

VISIBILITY = 4.0
EMPTY = Depth(0, 0, 0)


simulator = simulator_fixture(keys=[KEY])

site = site_fixture(more=f"visibility_timeout = {VISIBILITY}", workers=2, concurrency=20)


@pytest.fixture(autouse=True)
def as_new(simulator: Simulator, site: Site) -> Iterator[None]:
    yield
    simulator.configure(failures=[], latency=0.0, models={"*": {}})
    simulator.clear()
    client = site.client()
    for bucket in client.scan_iter(site.keys.bucket("*")):
        client.delete(bucket)  # the pace that a test's 429s have taught is not the next one's
    for worker in site.workers:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def producer(site: Site) -> Iterator[Celery]:
    """A plain Celery application, with kombu's own transport."""
    url = site.redis_url()
    app = Celery("plain", broker=url, backend=url, broker_transport="kombu.transport.redis:Transport")
    yield app
    app.close()


def send(producer: Celery, number: int, workflow: str, **options: Any) -> Any:
    return producer.send_task("overnight.job", kwargs={"job": job(number)}, queue=f"workflow.{workflow}", **options)


def depth(site: Site, workflow: str) -> Depth:
    queue = f"workflow.{workflow}"
    return depths(site.client(), site.keys, [queue])[queue]


def live(site: Site) -> list[Worker]:
    return [worker for worker in site.workers if worker.process.poll() is None]


def completed(site: Site, batch: str, count: int, seconds: float) -> None:
    """Every job has ended well, whether or not its line is written yet."""
    wait_for(lambda: site.status(batch)["request_counts"]["completed"] == count, seconds, 0.5)


def ended_once(site: Site, batch: str, count: int) -> None:
    """Every job of the batch has its one line. A tick that was lost with its worker is another's after a minute."""
    assert site.wait(batch, 90.0)["request_counts"] == {"total": count, "completed": count, "failed": 0}
    lines, errors = site.results(batch)
    assert errors == []
    assert Counter(line["custom_id"] for line in lines) == Counter(f"job-{n}" for n in range(1, count + 1))


def test_an_idle_worker_takes_a_stock_producers_job_at_once(site: Site, simulator: Simulator, producer: Celery) -> None:
    send(producer, 0, "idle").get(timeout=20)
    waits = []
    for number in range(1, 6):
        time.sleep(0.3)  # long enough for the worker to be idle
        simulator.clear()
        sent = time.time()
        send(producer, number, "idle").get(timeout=10)
        waits.append(simulator.journal()[0]["wall"] - sent)
    assert min(waits) < 0.4, waits
    wait_for(lambda: depth(site, "idle") == EMPTY)


def test_a_stock_producers_eta_waits_in_the_server(site: Site, simulator: Simulator, producer: Celery) -> None:
    send(producer, 0, "eta").get(timeout=20)
    simulator.clear()
    due = time.time() + 6.0  # longer than a visibility timeout
    results = [send(producer, number, "eta", countdown=6.0) for number in range(1, 6)]
    wait_for(lambda: depth(site, "eta") == Depth(0, 0, 5))
    for result in results:
        result.get(timeout=20)
    late = [entry["wall"] - due for entry in simulator.journal()]
    assert len(late) == 5
    assert min(late) > -0.2
    assert min(late) < 1.0
    wait_for(lambda: depth(site, "eta") == EMPTY)


def test_purge_and_inspect_tell_the_truth(site: Site, simulator: Simulator, producer: Celery) -> None:
    send(producer, 0, "truth").get(timeout=20)
    simulator.configure(latency=3.0)
    running = [send(producer, number, "truth") for number in range(1, 4)]
    for number in range(4, 8):
        send(producer, number, "truth", countdown=3600)
    wait_for(lambda: depth(site, "truth") == Depth(0, 3, 4))
    inspect = producer.control.inspect(timeout=2.0)

    def follow() -> int:
        """Workers that follow the queue, each of which has to notice a new workflow."""
        found = inspect.active_queues() or {}
        return sum(any(queue["name"] == "workflow.truth" for queue in queues) for queues in found.values())

    wait_for(lambda: follow() == 2, what="both workers at the new queue")
    scheduled = {
        entry["request"]["id"] for found in inspect.scheduled().values() for entry in found if entry["request"]
    }
    assert len(scheduled) == 4
    environment = {**os.environ, **site.environment}
    purged = _celery(site, environment, "purge", "-f", "-Q", "workflow.truth")
    assert "4" in purged, purged
    assert depth(site, "truth").delayed == 0
    for result in running:
        assert result.get(timeout=20)["error"] is None
    wait_for(lambda: depth(site, "truth") == EMPTY)


def _celery(site: Site, environment: dict[str, str], *arguments: str) -> str:

    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers", *arguments],
        cwd=site.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_poison_stops_no_worker_and_can_be_replayed(site: Site, producer: Celery) -> None:
    client = site.client()
    for number in range(2):
        client.lpush("workflow.poison", f"no JSON, number {number}")
    producer.send_task("nobody.knows", queue="workflow.poison")
    send(producer, 1, "poison").get(timeout=20)
    wait_for(lambda: depth(site, "poison") == EMPTY)
    rows = json.loads(site.run("dead", "list", "--json").stdout)
    assert {row["queue"] for row in rows} == {"workflow.poison"}
    assert sorted(row["reason"][:12] for row in rows) == ["its task 'no", "unreadable: ", "unreadable: "]
    site.run("dead", "drop", rows[0]["id"])
    site.run("dead", "replay", rows[1]["id"])
    wait_for(lambda: len(json.loads(site.run("dead", "list", "--json").stdout)) == 2, 20.0)
    site.run("dead", "drop", "--all")
    assert json.loads(site.run("dead", "list", "--json").stdout) == []


def test_connections_that_drop_run_nothing_twice(site: Site, simulator: Simulator) -> None:
    simulator.configure(latency=1.5)
    batch = site.submit(jobs(60), workflow="dropped")
    client = site.client()
    for _ in range(3):
        wait_for(lambda: simulator.stats()["in_flight"] > 10, 20.0)
        for one in client.client_list():
            if one["id"] != str(client.client_id()):
                client.client_kill_filter(_id=one["id"])
        time.sleep(0.5)
    ended_once(site, batch, 60)
    assert len(simulator.journal()) == 60


@pytest.mark.chaos
def test_a_suspended_worker_loses_its_jobs_and_harms_none(site: Site, simulator: Simulator) -> None:
    simulator.configure(latency=1.0)
    batch = site.submit(jobs(80), workflow="paused")
    wait_for(lambda: simulator.stats()["in_flight"] > 25, 20.0)
    paused = live(site)[0]
    paused.process.send_signal(signal.SIGSTOP)
    time.sleep(VISIBILITY + 2.0)
    paused.process.send_signal(signal.SIGCONT)
    ended_once(site, batch, 80)
    assert len(simulator.journal()) <= 80 + 20, "at most what the paused worker had in flight was paid twice"


@pytest.mark.chaos
def test_an_outage_during_snoozes_loses_no_job(site: Site, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "429", "times": 3, "retry_after": "8"}], latency=0.3)
    batch = site.submit(jobs(40), workflow="away")
    wait_for(lambda: simulator.stats()["statuses"].get("429"), 20.0)
    os.kill(site.redis_pid(), signal.SIGSTOP)
    try:
        time.sleep(VISIBILITY + 3.0)
    finally:
        os.kill(site.redis_pid(), signal.SIGCONT)
    completed(site, batch, 40, 30.0)
    assert simulator.stats()["jobs_answered"] == 40
    assert simulator.stats()["answered_again"] == 0
    ended_once(site, batch, 40)
    wait_for(lambda: depth(site, "away") == EMPTY)


def test_a_killed_worker_loses_nothing(site: Site, simulator: Simulator) -> None:
    simulator.configure(latency=1.0)
    batch = site.submit(jobs(80), workflow="killed")
    wait_for(lambda: simulator.stats()["in_flight"] > 25, 20.0)
    live(site)[0].kill()
    completed(site, batch, 80, VISIBILITY + 20.0)
    assert len(simulator.journal()) <= 80 + 20
    wait_for(lambda: depth(site, "killed") == EMPTY)


def test_a_stopping_worker_gives_back_what_has_not_begun(site: Site, simulator: Simulator, tmp_path: Path) -> None:
    del tmp_path
    simulator.configure(latency=0.5)
    batch = site.submit(jobs(60), workflow="stopped")
    wait_for(lambda: simulator.stats()["requests"] > 5, 20.0)
    for worker in live(site):
        assert worker.stop() == 0
    found = depth(site, "stopped")
    assert found.in_flight == 0, found
    site.start_worker(concurrency=20)
    ended_once(site, batch, 60)
    assert len(simulator.journal()) == 60
