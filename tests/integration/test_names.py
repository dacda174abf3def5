"""Names that a client makes up slow no other job down, and can't be used to escape a budget."""

import base64
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.simulator import Simulator
from tests.support.fixtures import simulator_fixture
from tests.support.site import Site, job, wait_for
from tests.support.toml import PRICES
from tests.support.watching import ask, exporter
from workers.config.settings import load
from workers.transport.envelope import JOB
from workers.transport.queues import depths, registered
from workers.transport.registry import KEEP_IDLE, MAX_UNCONFIGURED, Registry

#: Of one client, in the time that a pipeline takes.
WORKFLOWS, MODELS = 30_000, 50_000


simulator = simulator_fixture(latency=0.02)


def stock(site: Site) -> Celery:
    """A producer that knows nothing of Overnight but the address and the names."""
    transport = {"broker_transport": "kombu.transport.redis:Transport"}
    return Celery("plain", broker=site.redis_url(), backend=site.redis_url(), set_as_current=False, changes=transport)


def test_an_unconfigured_workflow_does_not_run_beside_budgets(tmp_path: Path, simulator: Simulator) -> None:
    table = "[workflows.nightly-summaries]\nbudget_usd = 5.0"
    with Site(tmp_path, simulator, model=PRICES, more="remote_control = false", tables=table) as site:
        refused = site.run("submit", str(site.input([job(1)])), "-w", "nightly-summarise", status=None)
        assert refused.returncode != 0
        assert 'did you mean "nightly-summaries"?' in " ".join(refused.stderr.split())
        assert "only configured ones run: nightly-summaries" in site.run("check").stderr
        worker = site.start_worker()
        with stock(site) as client:
            simulator.clear()
            # One queue that no worker follows, and the one that Celery follows whatever its name.
            typo = client.send_task(JOB, kwargs={"job": job(1)}, queue="workflow.nightly-summarise")
            default = client.send_task(JOB, kwargs={"job": job(2)}, queue="workflow.default")
            allowed = client.send_task(JOB, kwargs={"job": job(3)}, queue="workflow.nightly-summaries")
            assert allowed.get(timeout=20)["error"] is None
            words = default.get(timeout=20)["error"]["message"]
            assert words.startswith('workflow "default" is not configured, so no budget would count its jobs')
            wait_for(lambda: "1 workflows are not configured" in worker.said(), what="a word in the log")
            assert not typo.ready()
            assert client.control.inspect(timeout=1.0).ping() is None, "remote control is switched off"
        assert simulator.stats()["requests"] == 1


@pytest.mark.long
@pytest.mark.timeout(300)
def test_thousands_of_made_up_names_hold_no_job_up(tmp_path: Path, simulator: Simulator) -> None:
    with Site(tmp_path, simulator, model=PRICES, tables="[workflows.victim]") as site:
        alone = started_in(site)
        redis = site.client()
        with stock(site) as client:
            comes_and_goes(site, client)
            before = answered_in(client)
            attack(site)
            during = [answered_in(client) for _ in range(5)]
            # The median: one of them may meet a machine that is busy. Two minutes, if every name were followed.
            assert sorted(during)[2] < before + 1.0, f"the victim's jobs start soon: {before:.2f}, then {during}"
            # Its own work aside: two processes that compete for the processor are slow without any names.
            site.workers[0].process.send_signal(signal.SIGSTOP)
            beside = started_in(site)
            site.workers[0].process.send_signal(signal.SIGCONT)
            names = registered(redis, site.keys)
            assert len(names) <= MAX_UNCONFIGURED + 1
            wait_for(lambda: redis.hlen(site.keys.ledger(int(time.time() // 86_400))) > 500, what="many models")
            with exporter(site) as url:
                _, text, _ = ask(url)
        assert len(text) < 1 << 20
        # Where a worker alone takes longer, the machine is busy.
        assert beside < max(5.0, 2 * alone), (
            f"a new worker is ready within seconds: {alone:.1f} alone, {beside:.1f} beside"
        )
        assert text.count("overnight_queue_jobs{") <= 3 * 102
        forgotten_after_an_hour(site)


def forgotten_after_an_hour(site: Site) -> None:
    """An hour after their last jobs all made-up names have left the registry, and not much sooner."""
    redis = site.client()

    def emptied() -> bool:
        queues = redis.keys("workflow.*")
        if queues:
            redis.delete(*queues)
        return not any(depth.total for depth in depths(redis, site.keys).values())

    wait_for(emptied, 60, what="empty queues")
    for worker in site.workers:
        worker.kill()
    known = len(registered(redis, site.keys))
    assert known > MAX_UNCONFIGURED // 2
    later = 0.0
    registry = Registry(redis, site.keys, load(site.file), redis, clock=lambda: time.time() + later)
    registry.prune()
    later = KEEP_IDLE - 300
    assert registry.prune() == 0
    later = KEEP_IDLE + 1
    assert registry.prune() >= known - 1
    assert registered(redis, site.keys) <= {"workflow.victim"}


def comes_and_goes(site: Site, client: Celery) -> None:
    """An unconfigured workflow is followed when it has a job, and no longer when the registry has forgotten it."""
    for _ in range(2):
        client.send_task(JOB, kwargs={"job": job(1)}, queue="workflow.passing").get(timeout=20)
        assert b"workflow.passing" in site.client().smembers(site.keys.queues)
        said = len(site.workers[0].said())
        site.client().srem(site.keys.queues, "workflow.passing")
        words = "no longer consuming from workflow.passing"
        wait_for(lambda: words in site.workers[0].said()[said:], what=words)  # noqa: B023 - waited for at once


def answered_in(client: Celery) -> float:
    """Seconds until a job of the victim's is answered."""
    begun = time.monotonic()
    client.send_task(JOB, kwargs={"job": job(1, text=str(begun))}, queue="workflow.victim").get(timeout=60)
    return time.monotonic() - begun


def started_in(site: Site) -> float:
    """Seconds until a new worker is ready."""
    begun = time.monotonic()
    site.start_worker(concurrency=20)
    return time.monotonic() - begun


def attack(site: Site) -> None:
    """Bindings and messages of as many workflows, and models, as fit into a few pipelines."""
    pipeline = site.client().pipeline(transaction=False)
    for number in range(MODELS):
        queue = f"workflow.w{number % WORKFLOWS}"
        pipeline.sadd(f"_kombu.binding.{queue}", "x")
        pipeline.lpush(queue, message(f"made-up-{number}", job(1, model=f"acme/m{number}"), queue))
        if number % 5_000 == 0:
            pipeline.execute()
    pipeline.execute()


def message(task_id: str, line: dict[str, Any], queue: str) -> str:
    """A job as a stock Celery producer pushes it."""
    body = json.dumps([[], {"job": line}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": JOB, "id": task_id, "root_id": task_id, "retries": 0},
            "properties": {
                "body_encoding": "base64",
                "correlation_id": task_id,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "delivery_tag": task_id,
                "priority": 0,
            },
        }
    )
