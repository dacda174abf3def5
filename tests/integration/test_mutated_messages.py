"""Thousands of messages that mean harm, from one producer, beside another workflow's batch, which is not touched.

`SEED=7 pytest tests/integration/test_mutated_messages.py` tries others.
"""

import json
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from limits.client.connection import Server
from tasks.monitoring import costs
from tests.simulator import Simulator
from tests.support.mutations import Mutations
from tests.support.producer import Producer
from tests.support.site import Site, job, jobs, wait_for
from workers.transport.queues import depths

MODEL = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"
TABLES = "[workflows.victim]\nbudget_usd = 5.0\n[workflows.mallory]\nmax_attempts = 1\nbudget_usd = 5.0\n"
SEED = int(os.environ.get("SEED", "29"))


@pytest.mark.parametrize(
    ("count", "lines"),
    [pytest.param(60, 20), pytest.param(20_000, 500, marks=[pytest.mark.long, pytest.mark.timeout(900)])],
)
def test_every_message_is_run_refused_or_set_aside(tmp_path: Path, count: int, lines: int) -> None:
    with (
        Simulator() as simulator,
        Site(tmp_path, simulator, more="visibility_timeout = 5", model=MODEL, tables=TABLES) as site,
    ):
        worker = site.start_worker(concurrency=50)
        with Producer(site.redis_url(), "mallory") as mallory, site.client() as client:
            batch = site.submit(jobs(lines), workflow="victim")
            mutations = Mutations(SEED, batch)
            flood(client, mallory.queue, mutations, count // 4)
            drained(site, client, count)
            early = memory(worker.pid, client)
            flood(client, mallory.queue, mutations, count - count // 4)
            drained(site, client, count)
            late = memory(worker.pid, client)

            assert site.wait(batch, 300.0)["request_counts"] == {"total": lines, "completed": lines, "failed": 0}
            found, errors = site.results(batch)
            assert Counter(line["custom_id"] for line in found) == Counter(f"job-{n}" for n in range(1, lines + 1))
            assert errors == []
            # The books: each of the victim's jobs was called and paid once, and the ledger has every call.
            rows = costs.read(Server(client), site.keys, costs.since("1d", costs.today()))
            spent = dict(rows.by(costs.workflow))
            assert set(spent) <= {"victim", "mallory"}
            assert spent["victim"].calls == lines
            paid = sum(line["overnight"]["cost_usd"] for line in found)
            assert spent["victim"].total == pytest.approx(paid * 1e9, abs=1)
            made = [entry for entry in simulator.journal() if entry["status"] == 200]
            assert len(made) == sum(each.calls - each.failed_calls for each in spent.values())

            # The worker: not one was lost, and every slot is free.
            assert worker.process.poll() is None
            assert mallory.result(mallory.send({"job": job(0)}))["error"] is None
            assert not client.exists(site.keys.leases)
            # Each message has ended: it was run or refused, with a result, or set aside with a reason.
            info: Any = client.xinfo_stream(site.keys.dead)
            results = sum(1 for _ in client.scan_iter("celery-task-meta-*", count=1000))
            kept: Any = client.xrange(site.keys.dead)
            why = [fields[b"reason"].decode() for _, fields in kept]
            assert all(why)
            assert info["entries-added"] > count / 10
            assert results > count / 10
            assert len({re.sub(r"[\d'].*", "", reason) for reason in why}) > 10, Counter(why).most_common(30)
        said = worker.said()
        assert "forged \x1b" not in said
        assert "\n[CRITICAL] forged" not in said
        assert "is a defect in Overnight" not in said
        assert "cannot start the task" not in said, "it is checked before"
    assert late[0] - early[0] < 60 << 20, f"the worker grew from {early[0] >> 20} to {late[0] >> 20} MiB"
    assert late[1] - early[1] < max(count, 300) * 6_000, f"Redis grew from {early[1] >> 10} to {late[1] >> 10} KiB"


def flood(client: Any, queue: str, mutations: Mutations, count: int) -> None:
    """Push `count` messages, while the queue is short: it is the messages that are tried, not the room."""
    for _ in range(0, count, 100):
        wait_for(lambda: client.llen(queue) < 2_000, 120, what="room in the queue")
        client.lpush(queue, *(mutations.next() for _ in range(min(100, count))))


def drained(site: Site, client: Any, count: int) -> None:
    """Wait until every message of mallory's has ended; what waits for a far future stays."""

    def busy() -> int:
        depth = depths(client, site.keys, ["workflow.mallory"])["workflow.mallory"]
        soon = client.zcount(site.keys.delayed, "-inf", (time.time() + 600) * 1e6)
        return depth.ready + depth.in_flight + int(soon)

    wait_for(lambda: not busy(), 60 + count / 50, every=0.2, what="an empty queue")


def memory(pid: int, client: Any) -> tuple[int, int]:
    """What the worker and Redis have in use."""
    info: Any = client.info("memory")
    return psutil.Process(pid).memory_info().rss, int(info["used_memory"])


def test_the_mutations_are_the_same_for_a_seed() -> None:
    one, two = Mutations(1, "batch_x"), Mutations(1, "batch_x")
    assert [one.next() for _ in range(50)] == [two.next() for _ in range(50)]
    readable = sum(_readable(one.next()) for _ in range(200))
    assert 150 < readable < 200, "most of them reach the checks behind JSON"


def _readable(raw: bytes) -> bool:
    try:
        return isinstance(json.loads(raw), dict)
    except ValueError:
        return False
