"""Celery's own pools run the jobs, too: one call a process, thread or greenlet, and the same results."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from limits.client.connection import Server
from tasks.batches.store import Store
from tests.simulator import Simulator
from tests.support.site import Site, jobs, wait_for
from workers.transport.envelope import JOB

pytestmark = pytest.mark.long

#: An interpreter with gevent beside everything else; it is no dependency of ours.
GEVENT = os.environ.get("GEVENT_PYTHON")

POOLS = ["processes", "threads", "solo"]  # Celery takes `prefork`, its default, for the pool of the app


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Simulator() as simulator, Site(tmp_path_factory.mktemp("site"), simulator) as made:
        for pool in POOLS:
            made.start_worker(
                "-P", pool, "-Q", f"workflow.{pool}", "-I", "tests.support.tasks", concurrency=2, ready=pool == POOLS[0]
            )
        for worker in made.workers:
            wait_for(worker.ready, 60, what="worker")
        yield made


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_of_celerys_runs_jobs_and_coroutines(site: Site, pool: str) -> None:
    url, queue = site.redis_url(), f"workflow.{pool}"
    with Celery("producer", broker=url, backend=url, set_as_current=False) as client:
        found = client.signature("tests.support.tasks.who").apply_async(queue=queue)
        results = [client.send_task(JOB, kwargs={"job": line}, queue=queue) for line in jobs(4)]
        who = found.get(timeout=30)
        assert who["request"] == who["current"] == found.id
        assert who["children"] == [found.id, found.id]
        assert [result.get(timeout=30)["error"] for result in results] == [None] * 4


@pytest.mark.skipif(GEVENT is None, reason="GEVENT_PYTHON names no interpreter with Overnight and gevent")
def test_gevent_runs_jobs(tmp_path: Path) -> None:
    assert GEVENT is not None
    with Simulator() as simulator, Site(tmp_path, simulator) as site:
        batch = site.submit(jobs(20))
        with (tmp_path / "gevent.log").open("wb") as log:
            command = [GEVENT, "-m", "celery", "-A", "workers", "worker", "-P", "gevent", "-c", "10", "-l", "INFO"]
            worker = subprocess.Popen(command, cwd=tmp_path, env=site.environment, stdout=log, stderr=log)
        try:
            store = Store(site.keys, Server(site.client()))
            wait_for(lambda: (found := store.batch(batch)) and found.completed == 20, 60, what="the batch")
        finally:
            worker.terminate()
            worker.wait(30)
