"""Keys are nowhere; prompts and answers are in files, messages, journals and results, and in nothing else.

One run in which much goes wrong, with marked prompts and answers and known keys. Then everything that can be read of
it is searched: logs at DEBUG, Celery's events, every key of Redis, metrics, and what the commands print.
"""

import base64
import json
import re
from typing import Final

import pytest
import redis
from celery import Celery

from tests.simulator import Simulator
from tests.support.events import Events
from tests.support.privacy import ANSWER, TYPO, Night, base64_too, metrics, printed, watched
from tests.support.site import Site, job, wait_for
from tests.support.toml import PRICES, provider

KEYS: Final = ("sk-first-0123456789abcdefghijklmnop", "sk-second-0123456789abcdefghijklmnop")
PROMPT: Final = "Xylophone-4711"

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    seen = Night()
    failures = [
        {"mode": "echo_key", "key": 1, "times": 4},
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
            "visibility_timeout = 3.0\n"
            + provider(simulator.base_url, key='["env:FIRST_KEY", "env:SECOND_KEY"]', models={"small": PRICES})
            + tables
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
        # As if a minute had passed: the killed worker's leases are over.
        for line in client.zrange(site.keys.job_leases(batch), 0, -1):
            client.zadd(site.keys.job_leases(batch), {line: 1})
        _poison(site.redis_url())
        site.start_worker("-E", "-l", "DEBUG")
        site.wait(batch, 90.0)
        app = Celery(broker=site.redis_url(), backend=site.redis_url(), set_as_current=False)
        sent = app.send_task("overnight.job", kwargs={"job": lines[0]}, queue="workflow.nightly")
        assert "answer " in json.dumps(sent.get(timeout=30))
        for name, found in printed(site, batch).items():
            seen.saw(name, found)
        app.close()
    output, errors = site.results(batch)
    assert (len(output), len(errors)) == (60, 3)
    assert all(ANSWER.search(json.dumps(line).encode()) for line in output)
    seen.saw("events", json.dumps(events.heard, default=str))
    assert events.count("task-succeeded") > 30
    seen.saw("metrics", metrics(site))
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
