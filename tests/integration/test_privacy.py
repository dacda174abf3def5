"""Keys are nowhere; prompts and answers are in files, messages, journals and results, and in nothing else.

One night in which much goes wrong, with marked prompts and answers and known keys. Then everything that anybody could
read of it is searched: logs at their most talkative, Celery's events, every key of Redis, metrics, and what the
commands print.
"""

import base64
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
import redis
from celery import Celery

from tests.events import Events
from tests.simulator import Simulator
from tests.site import Site, job, wait_for

KEYS: Final = ("sk-first-0123456789abcdefghijklmnop", "sk-second-0123456789abcdefghijklmnop")
PROMPT: Final = "Xylophone-4711"
TYPO: Final = "Marzipan-0815"

#: What the simulator's answers look like, and the prompts' mark; also as Celery's messages carry them.
ANSWER: Final = re.compile(rb"answer [0-9a-f]{8}")

#: Keys of Redis that hold messages, results and journals: prompts and answers may be there.
MESSAGES: Final = re.compile(
    rb"workflow\.|celery-task-meta-|\{overnight\}:(unacked|delayed_messages|dead|job:|batch:[^:]+:results|journal)"
)


pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


class Night:
    """What anybody could read of a night, by where it was found."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}
        self.messages: dict[str, bytes] = {}

    def saw(self, where: str, what: bytes | str) -> None:
        self.found[where] = what.encode() if isinstance(what, str) else what

    def read_redis(self, client: "redis.Redis") -> None:
        """Every key with all that is in it, by its type."""
        for name in client.scan_iter(count=1000):
            content = b"\0".join(self._flat(read(client, name)))
            kind = self.messages if MESSAGES.match(name) else self.found
            where = f"redis {name.decode(errors='replace')}"
            kind[where] = kind.get(where, b"") + name + b"\0" + content

    def _flat(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, dict):
            value = list(value.items())
        if isinstance(value, list | tuple | set):
            for part in value:
                yield from self._flat(part)
        else:
            yield value if isinstance(value, bytes) else str(value).encode()


def read(client: Any, name: bytes) -> Any:
    match client.type(name):
        case b"string":
            return client.get(name)
        case b"hash":
            return client.hgetall(name)
        case b"list":
            return client.lrange(name, 0, -1)
        case b"set":
            return client.smembers(name)
        case b"zset":
            return client.zrange(name, 0, -1, withscores=True)
        case b"stream":
            return client.xrange(name)
        case b"none":
            return b""
        case kind:
            raise AssertionError(f"{name!r} is a {kind!r}: read it, too")


@contextmanager
def watched(night: Night, client: "redis.Redis") -> Iterator[None]:
    """Read all of Redis again and again, since much of it lives for less than a second."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.25):
            night.read_redis(client)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    seen = Night()
    failures = [
        {"mode": "echo_key", "key": 1, "times": 1},
        {"mode": "429", "probability": 0.2, "times": 8, "retry_after": "1"},
        {"mode": "500", "probability": 0.2, "times": 8},
        {"mode": "garbage", "times": 2, "after": 5},
        {"mode": "reset", "times": 2, "after": 9},
        {"mode": "400", "job": "refused"},
    ]
    tables = "[workflows.nightly]\nmax_attempts = 4\n"
    environment = {"FIRST_KEY": KEYS[0], "SECOND_KEY": KEYS[1]}
    with Simulator(keys=list(KEYS), failures=failures, latency=0.3) as simulator:
        toml = (
            f'visibility_timeout = 3.0\n[providers.acme]\napi = "openai"\nbase_url = "{simulator.base_url}"\n'
            'api_key = ["env:FIRST_KEY", "env:SECOND_KEY"]\n'
            "[providers.acme.models.small]\ninput_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0\n" + tables
        )
        folder = tmp_path_factory.mktemp("night")
        with Site(folder, toml=toml, environment=environment) as site:
            _run(site, seen)
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix == ".log":
            seen.saw(f"log {path.relative_to(folder)}", path.read_bytes())
    return seen


def _run(site: Site, seen: Night) -> None:
    """A batch with every kind of trouble."""
    victim = site.start_worker("-E", "-l", "DEBUG")
    client = site.client()
    lines = [job(number, text=f"{PROMPT} {number}") for number in range(60)]
    lines += [job(number, text=f"{PROMPT} refused {number}") for number in range(60, 63)]
    with Events(site.redis_url()) as events, watched(seen, client):
        batch = site.submit(lines)
        wait_for(lambda: site.status(batch)["request_counts"]["completed"] >= 5, what="the beginning")
        victim.kill()
        # As if a minute had passed: what the killed worker was running is nobody's any more.
        for line in client.zrange(site.keys.job_leases(batch), 0, -1):
            client.zadd(site.keys.job_leases(batch), {line: 1})
        _poison(site.redis_url())
        site.start_worker("-E", "-l", "DEBUG")
        site.wait(batch, 90.0)
        app = Celery(broker=site.redis_url(), backend=site.redis_url(), set_as_current=False)
        sent = app.send_task("overnight.job", kwargs={"job": lines[0]}, queue="workflow.nightly")
        assert "answer " in json.dumps(sent.get(timeout=30))
        for name, found in _printed(site, batch).items():
            seen.saw(name, found)
        app.close()
    output, errors = site.results(batch)
    assert (len(output), len(errors)) == (60, 3)
    assert all(ANSWER.search(json.dumps(line).encode()) for line in output)
    seen.saw("events", json.dumps(events.heard, default=str))
    assert events.count("task-succeeded") > 30
    seen.saw("metrics", _metrics(site))
    client.close()


def _poison(url: str) -> None:
    """Messages that no worker can run, each with a prompt in it."""
    client = redis.Redis.from_url(url)
    app = Celery(broker=url, set_as_current=False)
    app.send_task("no.such.task", args=[f"{PROMPT} unknown"], queue="workflow.nightly")
    app.send_task("overnight.job", args=[f"{PROMPT} arguments"], queue="workflow.nightly", ignore_result=True)
    app.send_task("overnight.job", kwargs={"job": {"custom_id": "x", "body": PROMPT}}, queue="workflow.nightly")
    client.lpush("workflow.nightly", f"{PROMPT} is no JSON")
    body = base64.b64encode(f"{PROMPT} is no task".encode()).decode()
    client.lpush("workflow.nightly", json.dumps({"body": body, "headers": {}, "properties": {"delivery_tag": "x"}}))
    app.close()
    client.close()


def _printed(site: Site, batch: str) -> dict[str, str]:
    """What the commands show, to people and to programs; and what they say of a file with mistakes."""
    commands = (
        ("status",),
        ("status", batch),
        ("status", batch, "--json"),
        ("limits",),
        ("limits", "--json"),
        ("costs", "--json"),
        ("dead", "list"),
        ("jobs", batch, "job-3"),
        ("check",),
    )
    running = {" ".join(command): site.popen(*command) for command in commands}
    bad = site.folder / "bad.jsonl"
    wrong = job(1, text=TYPO)
    texts = [json.dumps(wrong)[:-9], json.dumps({**wrong, "url": "/v1/nowhere"}), json.dumps({**wrong, "body": TYPO})]
    bad.write_text("\n".join(texts))
    running["submit bad.jsonl"] = site.popen("submit", str(bad), "-w", "nightly")
    found = {}
    for name, process in running.items():
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err, f"{name}: {err}"
        found[f"overnight {name}"] = out + err
    return found


def _metrics(site: Site) -> str:
    process = site.popen("metrics", "--port", "0")
    assert process.stderr is not None
    try:
        address = process.stderr.readline().split()[-1]
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=30) as answer:
            return str(answer.read().decode())
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_something_was_seen_of_everything(night: Night) -> None:
    """A search that looked nowhere would find nothing."""
    places = {where.split()[0] for where in night.found}
    assert places == {"log", "redis", "overnight", "events", "metrics"}
    assert sum(len(what) for where, what in night.found.items() if where.startswith("log")) > 10_000
    assert any(PROMPT.encode() in base64_too(what) for what in night.messages.values()), "no prompt in any message"
    logs = b"".join(what for where, what in night.found.items() if where.startswith("log worker"))
    assert b"is blocked, and is tried now and then" in logs, "the provider that repeats the key was not met"


def test_no_key_is_anywhere(night: Night) -> None:
    secrets = [key.encode() for key in KEYS]
    everything = {**night.found, **night.messages}
    assert [where for where, what in everything.items() for key in secrets if key in base64_too(what)] == []


@pytest.mark.parametrize("mark", [PROMPT, TYPO, "answer [0-9a-f]{8}"])
def test_prompts_and_answers_are_where_they_belong(night: Night, mark: str) -> None:
    pattern = re.compile(mark.encode())
    leaks = {where: pattern.search(base64_too(what)) for where, what in night.found.items()}
    told = {
        where: base64_too(night.found[where])[max(0, leak.start() - 150) : leak.end() + 50]
        for where, leak in leaks.items()
        if leak
    }
    assert told == {}


def base64_too(what: bytes) -> bytes:
    """The bytes, and what they hold in base64, which is how Celery's messages carry their bodies."""
    decoded = []
    for found in re.findall(rb"[A-Za-z0-9+/]{40,}={0,2}", what):
        try:
            decoded.append(base64.b64decode(found + b"=" * (-len(found) % 4)))
        except ValueError:
            continue
    return b"\0".join([what, *decoded])
