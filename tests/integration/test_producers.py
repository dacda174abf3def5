"""A producer is not an operator: who can put messages into one queue reaches nothing of another workflow.

Messages come from plain kombu; beside them a victim's batch runs, with a budget.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.batch import Batch, from_hash
from tests.producer import Producer
from tests.simulator import Simulator
from tests.site import Site, job, jobs

TABLES = "[workflows.victim]\nbudget_usd = 5.0\nconcurrency = 2\n[workflows.mallory]\nmax_attempts = 1\n"
MODEL = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as made:
        yield made


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator) -> Iterator[Site]:
    more = "visibility_timeout = 3"
    with Site(tmp_path_factory.mktemp("site"), simulator, more=more, model=MODEL, tables=TABLES) as made:
        made.start_worker(concurrency=5)
        yield made


@pytest.fixture(scope="module")
def mallory(site: Site) -> Iterator[Producer]:
    with Producer(site.redis_url(), "mallory") as made:
        yield made


@pytest.fixture(scope="module")
def victim(site: Site) -> Iterator[Producer]:
    with Producer(site.redis_url(), "victim") as made:
        yield made


def record(site: Site, batch: str) -> Batch:
    with site.client() as client:
        found: Any = client.hgetall(site.keys.batch(batch))
        read = from_hash(found)
    assert read is not None
    return read


def spent(site: Site, workflow: str) -> float:
    with site.client() as client:
        return float(client.hget(site.keys.budget(f"workflow:{workflow}", "total"), "spent") or 0)


def test_a_message_cannot_be_a_line_of_another_workflows_batch(site: Site, mallory: Producer) -> None:
    """Forged answers, lines ended without a call, lines that do not exist, costs: refused, before and after its end."""
    batch = site.submit(jobs(12, text=""), workflow="victim")
    forged = [
        ({"job": job(3, text="mallory's own"), "batch": batch, "line": 3, "round": 0}, {}),
        ({"job": {"x": 1}, "batch": batch, "line": 4, "round": 0}, {}),
        *(({"job": {"x": 1}, "batch": batch, "line": line, "round": 0}, {}) for line in range(1000, 1028)),
        ({"job": {"x": 1}, "batch": batch, "line": 4_294_967_295, "round": 0}, {}),
        (
            {"job": job(5), "batch": batch, "line": 5, "round": 0},
            {"overnight": {"crashes": 3, "cost": 9_223_372_036_854_475_807}},
        ),
    ]
    names = [mallory.send(kwargs, headers=headers or None) for kwargs, headers in forged]
    ended = site.wait(batch)
    assert ended["request_counts"] == {"total": 12, "completed": 12, "failed": 0}
    names += [mallory.send(kwargs) for kwargs, _ in forged[:3]]
    for name in names:
        assert mallory.result(name)["error"]["code"] == "invalid_request"
    after = record(site, batch)
    assert (after.status, after.completed, after.failed, after.calls) == ("completed", 12, 0, 12)
    assert after.cost < 1e9
    lines, errors = site.results(batch)
    assert sorted(line["custom_id"] for line in lines) == sorted(f"job-{number}" for number in range(1, 13))
    assert not errors
    assert "mallory's own" not in json.dumps(lines)
    with site.client() as client:
        sizes = [client.strlen(key) for key in (site.keys.done(batch), site.keys.failed(batch))]
    assert max(sizes) <= 2
