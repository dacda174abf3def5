"""The same way on RabbitMQ: batches, 429s, killed workers, a broker that restarts."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery
from kombu import Connection

from tests.simulator import Simulator
from tests.support import rabbitmq
from tests.support.fixtures import simulator_fixture
from tests.support.site import KEY, Site, job, jobs, wait_for

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(rabbitmq.missing() is not None, reason=str(rabbitmq.missing())),
    pytest.mark.timeout(240),
]


simulator = simulator_fixture(keys=[KEY])


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rabbitmq.RabbitMQ]:
    with rabbitmq.RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator, broker: rabbitmq.RabbitMQ) -> Iterator[Site]:
    more = f'broker_url = "{broker.url}"\nvisibility_timeout = 5.0'
    folder = tmp_path_factory.mktemp("site")
    with Site(folder, simulator, more=more, tables="[workflows.single]\nmax_attempts = 3\n") as made:
        made.start_workers(2, concurrency=20)
        yield made


@pytest.fixture(autouse=True)
def as_new(simulator: Simulator) -> Iterator[None]:
    yield
    simulator.configure(failures=[], latency=0.0, models={"*": {}})
    simulator.clear()


def ended_once(site: Site, batch: str, count: int) -> None:
    assert site.wait(batch, 120.0)["request_counts"] == {"total": count, "completed": count, "failed": 0}
    lines, errors = site.results(batch)
    assert errors == []
    assert Counter(line["custom_id"] for line in lines) == Counter(f"job-{n}" for n in range(1, count + 1))


def test_a_batch_runs_and_a_429_is_waited_for(site: Site, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "429", "times": 2, "retry_after": "7"}])
    batch = site.submit(jobs(40), workflow="nightly")
    ended_once(site, batch, 40)
    stats = simulator.stats()
    assert stats["jobs_answered"] == 40
    assert stats["early_jobs"] == 0


def test_a_job_that_waits_repeatedly_comes_back_each_time(site: Site, simulator: Simulator) -> None:
    """RabbitMQ takes a message that comes through a delaying queue again for one that goes in circles."""
    simulator.configure(failures=[{"mode": "429", "times": 3, "retry_after": "6"}])
    began = time.monotonic()
    batch = site.submit(jobs(1), workflow="patient")
    ended_once(site, batch, 1)
    assert len(simulator.journal()) == 4
    assert time.monotonic() - began < 60.0


def test_neither_a_killed_worker_nor_broker_loses_jobs(
    site: Site, simulator: Simulator, broker: rabbitmq.RabbitMQ
) -> None:
    simulator.configure(latency=1.0)
    batch = site.submit(jobs(80), workflow="killed")
    wait_for(lambda: simulator.stats()["in_flight"] > 5, 60.0)
    site.workers[0].kill()
    broker.stop()
    broker.start()
    ended_once(site, batch, 80)
    assert len(simulator.journal()) <= 80 + 20, "at most what was in flight at the kill was paid twice"


def test_a_plain_producer_and_its_eta(site: Site, simulator: Simulator, broker: rabbitmq.RabbitMQ) -> None:
    app = Celery("plain", broker=broker.url, backend=site.redis_url())
    app.conf.update(
        task_default_queue_type="quorum",
        task_create_missing_queue_type="quorum",
        task_create_missing_queue_exchange_type="topic",
        task_default_exchange_type="topic",
    )
    due = datetime.now(UTC) + timedelta(seconds=4)
    now = app.send_task("overnight.job", kwargs={"job": job(1)}, queue="workflow.single")
    later = app.send_task("overnight.job", kwargs={"job": job(2)}, queue="workflow.single", eta=due)
    assert now.get(timeout=30)["custom_id"] == "job-1"
    assert later.get(timeout=30)["custom_id"] == "job-2"
    assert simulator.journal()[-1]["wall"] > due.timestamp() - 1.1
    app.close()


def test_poison_is_set_aside(site: Site, broker: rabbitmq.RabbitMQ) -> None:
    with Connection(broker.url) as connection, connection.Producer() as producer:
        producer.publish(b"no JSON", exchange="", routing_key="workflow.single", content_type="application/json")
    wait_for(lambda: "workflow.single" in site.run("dead", "list", "--json").stdout, 30.0, 0.5)
    (row,) = json.loads(site.run("dead", "list", "--json").stdout)
    site.run("dead", "replay", row["id"])
    wait_for(lambda: row["id"] not in (rows := site.run("dead", "list", "--json").stdout) and "id" in rows, 30.0, 0.5)
    site.run("dead", "drop", "--all")
