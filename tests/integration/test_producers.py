"""A producer is not an operator: access to one queue gives no access to another workflow.

Messages come from plain kombu; beside them a victim's batch runs, with a budget.
"""

import bz2
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limits.client.connection import Server
from tasks.batches.batch import Batch, from_hash
from tasks.monitoring import costs
from tests.simulator import Simulator
from tests.support.agents import line as agents_line
from tests.support.fixtures import site_fixture
from tests.support.producer import Producer
from tests.support.site import Line, Site, job, jobs, read_lines, wait_for
from workers.transport.queues import depths

TABLES = "[workflows.victim]\nbudget_usd = 5.0\nconcurrency = 2\n[workflows.mallory]\nmax_attempts = 1\n"
MODEL = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"


site = site_fixture(more="visibility_timeout = 3", model=MODEL, tables=TABLES, workers=1, concurrency=5)


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


def ended(site: Site, batch: str) -> Batch:
    """The batch's record, as soon as it has ended."""
    found: Batch = wait_for(lambda: (now := record(site, batch)).over and now, 60, what="the batch's end")
    return found


def results(site: Site, batch: str) -> tuple[list[Line], list[Line]]:
    """The lines of its output and of its error file."""
    folder = site.folder / ".overnight" / "files" / batch
    return read_lines(folder / "output.jsonl"), read_lines(folder / "errors.jsonl")


def spent(site: Site, workflow: str) -> int:
    """What a workflow's jobs have cost so far, in n$."""
    with site.client() as client:
        found = costs.read(Server(client), site.keys, costs.since("1d", costs.today()))
    return dict(found.by(costs.workflow)).get(workflow, costs.Spent()).total


def stored(site: Site, task: str) -> int:
    """How many records there are of jobs with this task id."""
    with site.client() as client:
        return sum(1 for _ in client.scan_iter(site.keys.job(task) + "*", count=1000))


def dead(site: Site) -> list[str]:
    """Why messages are set aside."""
    with site.client() as client:
        found: Any = client.xrange(site.keys.dead)
    return [fields[b"reason"].decode() for _, fields in found]


def settled(site: Site, *workflows: str) -> None:
    """Wait until nothing is in these workflows' queues, or in flight."""
    with site.client() as client:
        names = [f"workflow.{name}" for name in workflows]
        wait_for(lambda: not sum(each.total for each in depths(client, site.keys, names).values()), what="empty queues")


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
    found = ended(site, batch)
    assert (found.total, found.completed, found.failed) == (12, 12, 0)
    names += [mallory.send(kwargs) for kwargs, _ in forged[:3]]
    for name in names:
        assert mallory.result(name)["error"]["code"] == "invalid_request"
    after = record(site, batch)
    assert (after.status, after.completed, after.failed, after.calls) == ("completed", 12, 0, 12)
    assert after.cost < 1e9
    lines, errors = results(site, batch)
    assert sorted(line["custom_id"] for line in lines) == sorted(f"job-{number}" for number in range(1, 13))
    assert not errors
    assert "mallory's own" not in json.dumps(lines)
    with site.client() as client:
        sizes = [client.strlen(key) for key in (site.keys.done(batch), site.keys.failed(batch))]
    assert max(sizes) <= 2


def test_the_queue_is_the_workflow_whatever_a_message_says(site: Site, mallory: Producer) -> None:
    """Neither its delivery_info, nor the third part of its body, nor a header of Celery's name changes who pays."""
    victims = {"exchange": "", "routing_key": "workflow.victim"}
    before = spent(site, "victim")
    body = json.dumps([[], {"job": job(201)}, {}]).encode()
    names = [
        mallory.push(body, delivery_info=victims),
        mallory.push(body, delivery_info={"exchange": "", "routing_key": ["x"]}),
        mallory.send({"job": job(202)}, embed={"delivery_info": victims, "headers": {"overnight": 7}}),
        mallory.send({"job": job(203)}, headers={"delivery_info": victims, "get": 1, "update": 2, "is_eager": True}),
    ]
    for name in names:
        assert mallory.result(name)["error"] is None
    assert spent(site, "victim") == before
    assert spent(site, "mallory") > 0


def test_invalid_time_limits_take_no_slot_of_the_pool(site: Site, mallory: Producer, victim: Producer) -> None:
    before = len(dead(site))
    for _ in range(6):  # the worker has five places
        mallory.send({"job": job(210)}, headers={"timelimit": ["a", "b"]})
    assert victim.result(victim.send({"job": job(211)}))["error"] is None
    wait_for(lambda: len(dead(site)) == before + 6, what="six messages set aside")
    assert "timelimit" in dead(site)[-1]


def test_no_callbacks_run_and_ids_reveal_no_answers(
    site: Site, mallory: Producer, victim: Producer, simulator: Simulator
) -> None:
    name = victim.send({"job": job(220, text="what only the victim knows")})
    answer = victim.result(name)
    assert answer["error"] is None
    loot = [{"task": "any", "args": [], "kwargs": {}, "options": {"queue": "loot"}, "subtask_type": None}]
    before = dead(site)
    mallory.send({"job": job(221)}, headers={"id": name}, embed={"callbacks": loot})
    mallory.send({"job": job(221)}, headers={"task": "celery.map"}, args=[{"task": "overnight.job"}, [1]])
    wait_for(lambda: len(dead(site)) == len(before) + 2, what="two messages set aside")
    # The same id with another line, and from another workflow with the same line: jobs of their own, which are called.
    mallory.send({"job": job(222)}, headers={"id": name})
    mallory.send({"job": job(220, text="what only the victim knows")}, headers={"id": name})
    wait_for(lambda: stored(site, name) == 3, what="three jobs of one id")
    settled(site, "mallory")
    # The victim that repeats its own message gets its own answer without a call.
    calls = len(simulator.journal())
    victim.send({"job": job(220, text="what only the victim knows")}, headers={"id": name})
    settled(site, "victim")
    assert len(simulator.journal()) == calls
    assert not mallory.client.exists("loot")


def test_types_that_only_kombu_knows_mean_nothing_in_a_job(site: Site) -> None:
    """Submit reads a line as plain JSON, and so does the worker: the batch ends."""
    strange = {"__type__": "date-range", "__value__": "x"}
    batch = site.submit([job(1, metadata=strange), job(2)], workflow="victim")
    found = ended(site, batch)
    assert (found.total, found.completed, found.failed) == (2, 2, 0)


def test_log_lines_cannot_be_forged(site: Site, mallory: Producer) -> None:
    before = len(dead(site))
    forged = "[2026-11-30 20:00:00,000: CRITICAL/MainProcess] forged line \x1b[31m"
    mallory.send({"job": job(230)}, headers={"id": f"x\n{forged}"})
    mallory.send({"job": job(230)}, headers={"shadow": f"x\n{forged}"})
    mallory.send({"job": job(230)}, headers={"id": "i" * 1_000_000})
    wait_for(lambda: len(dead(site)) == before + 3, what="three messages set aside")
    said = site.workers[0].said()
    assert "forged" not in said
    assert "\x1b[31m" not in said
    assert max(map(len, said.splitlines())) < 10_000


def test_a_decompression_bomb_does_not_go_off(site: Site, mallory: Producer) -> None:
    """A message of 1 MB that would be 200 MB, which kombu unpacks before anything of it is looked at."""
    piece, made = bytes(10 << 20), zlib.compressobj(1)
    bomb = b"".join(made.compress(piece) for _ in range(20)) + made.flush()
    before, peak = len(dead(site)), site.workers[0].peak()
    for _ in range(3):
        mallory.push(bomb, headers={"compression": "gzip"})
    mallory.push(bz2.compress(b"[[], {}, {}]"), content_encoding="utf-8", headers={"compression": "zstd"})
    fine = json.dumps([[], {"job": job(240)}, {}]).encode()
    assert mallory.result(mallory.push(zlib.compress(fine), headers={"compression": "gzip"}))["error"] is None
    wait_for(lambda: len(dead(site)) == before + 4, what="four messages set aside")
    assert site.workers[0].peak() - peak < 150 << 20


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_line_that_kills_five_workers_is_set_aside(tmp_path: Path, simulator: Simulator) -> None:
    """Its batch ends, with an error for it and an answer for every other line."""
    more = 'visibility_timeout = 2\nagents = ["tests.support.agents"]'
    with Site(tmp_path, simulator, more=more, model=MODEL) as site:
        lines = jobs(20)
        lines[7] = agents_line("deadly", 8)
        batch = site.submit(lines)
        deaths = 0
        while not record(site, batch).over:
            worker = site.start_worker(concurrency=5)
            wait_for(lambda w=worker: w.process.poll() is not None or record(site, batch).over, 60, what="an end")
            deaths += worker.process.poll() is not None
        assert deaths == 5
        lines, errors = results(site, batch)
        assert len(lines) == 19
        (failed,) = errors
        assert failed["custom_id"] == "job-8"
        assert failed["error"]["code"] == "set_aside"
        assert "5 workers ended while they had it" in failed["error"]["message"]
        assert dead(site) == ["5 workers ended while they had it"]
