"""The compose file, as its users run it: up, submit, scale, and what goes wrong in a night."""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openai
import pytest

from tests.smoke.stack import CLIENT_KEY, FLOWER_PASSWORD, ROOT, Stack, docker
from tests.support.site import jobs, wait_for

pytestmark = [pytest.mark.smoke, pytest.mark.timeout(600), pytest.mark.usefixtures("image")]


def test_a_run_survives_a_killed_worker_and_redis(stack: Stack) -> None:
    """Nothing is lost, every line is there once, and what is paid twice was in flight at the kill."""
    started = time.monotonic()
    stack.up("--build", "--scale", "worker=3")
    tell(f"up in {time.monotonic() - started:.1f} s")
    count = 1500
    source = stack.input("in.jsonl", jobs(count))
    batch = stack.overnight("submit", source, "-w", "nightly").strip()
    assert batch.startswith("batch_")

    stack.wait_until_done(batch, 0.1)
    victim = stack.containers("worker")[0]
    docker("kill", victim)
    stack.wait_until_done(batch, 0.4)
    stack.compose("kill", "redis")
    stack.compose("start", "redis")
    status = stack.wait_until_done(batch, 1.0, 150.0)
    wait_for(lambda: stack.status(batch)["status"] == "completed", 60.0, 0.5, what="the end")
    tell(f"done in {time.monotonic() - started:.1f} s")

    assert status["request_counts"] == {"total": count, "completed": count, "failed": 0}
    lines = stack.results(batch)
    assert sorted(line["custom_id"] for line in lines) == sorted(f"job-{number}" for number in range(1, count + 1))
    calls = len(stack.journal())
    assert count <= calls <= count + 20, "a killed worker held 20 calls"


def test_a_deploy_in_a_night_loses_and_repeats_nothing(stack: Stack) -> None:
    """All workers are stopped and started with another configuration, with calls in flight."""
    stack.up("--scale", "worker=2")
    count = 400
    batch = stack.overnight("submit", stack.input("in.jsonl", jobs(count)), "-w", "nightly").strip()
    stack.wait_until_done(batch, 0.1)
    before = set(stack.containers("worker"))
    stack.environment["WORKER_CONCURRENCY"] = "30"
    stack.up("--no-deps", "--scale", "worker=2", "worker")
    assert not before & set(stack.containers("worker"))
    status = stack.wait_until_done(batch, 1.0)
    assert status["request_counts"]["completed"] == count
    assert len(stack.journal()) == count


def test_two_beats_and_a_night_that_was_missed(stack: Stack) -> None:
    """A schedule's night, due while nothing ran: one batch, and `overnight schedules` says how it went."""
    stack.up("--scale", "beat=2", "--scale", "flower=0")
    now = datetime.now(UTC)
    slot = now.replace(hour=2, minute=0, second=0, microsecond=0)
    slot -= timedelta(days=slot > now)
    stack.input(f"{slot:%Y-%m-%d}.jsonl", jobs(5))
    since = (slot - timedelta(minutes=1)).timestamp()
    stack.redis("HSET", "{overnight}:schedule:nightly", "times", "0 2 * * * UTC", "since", str(since))

    def last() -> dict[str, Any] | None:
        found = json.loads(stack.compose("exec", "-T", "worker", "overnight", "schedules", "--json"))
        night: dict[str, Any] | None = found["schedules"][0]["last"]
        return night if night and night["status"] == "completed" else None

    night = wait_for(last, 90.0, 1.0, what="the night's end")
    assert night["state"] == "ran"
    assert night["missed"] or now - slot < timedelta(minutes=15)
    assert night["request_counts"] == {"total": 5, "completed": 5, "failed": 0}
    batches = json.loads(stack.compose("exec", "-T", "worker", "overnight", "status", "--json"))
    assert [batch["id"] for batch in batches] == [night["batch"]]


def test_who_may_look(stack: Stack) -> None:
    """Flower asks for a password, and Redis is in no network but its own."""
    stack.up()
    address = stack.address("flower", 5555)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get(address)
    assert get(address, f"overnight:{FLOWER_PASSWORD}")
    [redis] = stack.containers("redis")
    assert docker("port", redis).strip() == ""
    inspected = docker("inspect", redis, "--format", "{{json .NetworkSettings.Networks}}")
    assert f"{stack.project}_outside" not in inspected
    assert stack.environment["REDIS_PASSWORD"] not in docker("top", redis)
    with pytest.raises(AssertionError, match="NOPERM"):
        assert "NOPERM" not in stack.redis("FLUSHALL")


def test_openais_sdk_uses_two_servers_as_one(stack: Stack) -> None:
    """A file that is uploaded at one HTTP server becomes a batch at the other, and either takes live calls."""
    stack.up("--scale", "api=2", "--scale", "flower=0")
    content = "".join(json.dumps(line) + "\n" for line in jobs(20)).encode()
    with sdk(stack, 1) as one, sdk(stack, 2) as two, sdk(stack, 1, key="wrong") as wrong:
        file = one.files.create(file=("tickets.jsonl", content), purpose="batch").id
        made = two.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h").id
        done = wait_for(lambda: (found := one.batches.retrieve(made)).status == "completed" and found, 60.0, 0.5)
        assert (done.request_counts.total, done.request_counts.completed) == (20, 20)
        assert two.files.content(done.output_file_id).text.count('"custom_id"') == 20
        assert stack.status(made)["status"] == "completed"
        for each in (one, two):
            answer = each.chat.completions.create(model="small", messages=[{"role": "user", "content": "Hello"}])
            assert answer.choices[0].message.content
        with pytest.raises(openai.AuthenticationError):
            wrong.models.list()


@pytest.mark.parametrize("password", ["REDIS_PASSWORD", "FLOWER_PASSWORD"])
def test_nothing_starts_without_a_password(password: str) -> None:
    environment = {"REDIS_PASSWORD": "x", "FLOWER_PASSWORD": "x", password: ""}
    with pytest.raises(AssertionError, match=f"{password}.*make env"):
        docker("compose", "--env-file", os.devnull, "config", "--quiet", env=environment)


def test_the_image_has_no_root_and_no_secrets(image: str) -> None:
    assert docker("run", "--rm", image, "id", "-u").strip() == "10001"
    history = docker("history", "--no-trunc", image)
    assert "KEY" not in history
    assert docker("run", "--rm", image, "sh", "-c", "ls -A /var/lib/overnight /etc/overnight").split() == [
        "/etc/overnight:",
        "/var/lib/overnight:",
    ]
    assert (ROOT / "Dockerfile").read_text().startswith("# One image")


def tell(words: str) -> None:
    """What `make smoke` shows beside the tests' names."""
    sys.stderr.write(f"\n    {words}\n")


def sdk(stack: Stack, index: int, key: str = CLIENT_KEY) -> openai.OpenAI:
    """OpenAI's client for one of the HTTP servers."""
    url = stack.address("api", 8080, index) + "/v1"
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, http_client=httpx.Client(trust_env=False))


def get(address: str, credentials: str = "") -> str:
    request = urllib.request.Request(address)
    if credentials:
        request.add_header("Authorization", "Basic " + base64.b64encode(credentials.encode()).decode())
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        read: bytes = answer.read()
        return read.decode()
