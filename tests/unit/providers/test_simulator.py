"""The simulator itself: a benchmark is only as true as the provider that it runs against."""

import asyncio
import math
import random
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.simulator import Simulator
from tests.simulator.config import Config, Model, configure
from tests.simulator.quota import Quota
from tests.simulator.refusals import duration, rate_headers
from tests.simulator.service import Service
from tests.unit.providers.conftest import KEY, call, chat, with_provider
from workers.providers import AccountBlocked, Provider, Throttled, TooLarge
from workers.providers.bodies import CHAT, MESSAGES


def drive(model: Model, arrivals: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Requests at (time, tokens), each tried until it passes: the times at which they did."""
    quota, passed = Quota(model, 0.0), []
    now = 0.0
    for at, tokens in arrivals:
        now = max(now, at)
        costs = {"rpm": 1.0, "tpm": tokens, "itpm": tokens, "otpm": tokens}
        while (wait := quota.wait(costs, now)[0]) > 0:
            now += wait + 1e-9
        quota.take(costs, now)
        passed.append((now, tokens))
    return passed


def most_in_window(passed: list[tuple[float, float]], window: float) -> float:
    return max(sum(units for at, units in passed if start <= at < start + window) for start, _ in passed)


@pytest.mark.parametrize(
    ("counting", "burst_s", "most_in_a_minute", "most_in_a_second"),
    [
        # A full bucket, and what flows in during that time.
        ("linear", 60.0, 2 * 600, 600 + 10),
        ("linear", 1.0, 600 + 10, 10 + 10),
        ("per-second", 60.0, 600, 20),
        # Two windows that touch.
        ("fixed", 60.0, 2 * 600, 600),
        ("sliding", 60.0, 600, 600),
    ],
)
def test_no_way_of_counting_lets_more_through(
    counting: str, burst_s: float, most_in_a_minute: int, most_in_a_second: int
) -> None:
    passed = drive(Model(rpm=600, counting=counting, burst_s=burst_s), [(0.0, 1.0)] * 3000)
    units = [(at, 1.0) for at, _ in passed]
    assert most_in_window(units, 60.0 - 1e-6) <= most_in_a_minute + 1
    assert most_in_window(units, 1.0 - 1e-6) <= most_in_a_second + 1
    # And none of them lets less through: 3,000 requests at 600 a minute, less what the start holds.
    assert passed[-1][0] <= 300.0 + 1e-3
    assert passed[-1][0] >= 180.0


def test_tokens_are_counted_beside_requests() -> None:
    rnd = random.Random(1)
    sizes = [float(rnd.randint(100, 3000)) for _ in range(500)]
    passed = drive(Model(rpm=10_000, tpm=60_000), [(0.0, size) for size in sizes])
    assert math.isclose(passed[-1][0], (sum(sizes) - 60_000) / 1000, abs_tol=3.0)


@pytest.mark.parametrize(
    ("rule", "tpm", "itpm", "otpm"),
    [("max", 500, 100, 20), ("sum", 600, 100, 20), ("input", 100, 100, 20), ("actual", 120, 100, 20)],
)
def test_token_rules(rule: str, tpm: int, itpm: int, otpm: int) -> None:
    costs = Quota(Model(tokens=rule), 0.0).costs(estimate=100, ceiling=500, made=20)
    assert costs == {"rpm": 1, "tpm": tpm, "itpm": itpm, "otpm": otpm}


def test_anthropics_output_counts_when_it_is_made(simulator: Simulator) -> None:
    simulator.configure(models={"*": {"otpm": 60, "burst_s": 10, "tokens": "anthropic"}}, answer_tokens=30)

    async def use(provider: Provider) -> Throttled:
        await provider.call(MESSAGES, chat(), model="m", key=KEY)
        with pytest.raises(Throttled) as raised:
            await provider.call(MESSAGES, chat(), model="m", key=KEY)
        return raised.value

    error = with_provider(simulator.base_url, use, api="anthropic")
    assert 15 <= (error.retry_after or 0) <= 21  # 30 of 10 are spent, so it takes 20 s to get above zero
    assert simulator.journal()[1]["denied_by"] == "otpm"


def test_concurrency(simulator: Simulator) -> None:
    simulator.configure(models={"*": {"concurrency": 5}}, latency=0.3)

    async def use(provider: Provider) -> list[Any]:
        calls = [provider.call(CHAT, chat(f"{n}"), model="m", key=KEY) for n in range(20)]
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = with_provider(simulator.base_url, use)
    assert sum(isinstance(outcome, Throttled) for outcome in outcomes) == 15


def test_a_request_above_the_limit_is_told_to_be(simulator: Simulator) -> None:
    simulator.configure(models={"*": {"tpm": 1000}})
    with pytest.raises(TooLarge):
        call(simulator.base_url, chat(max_tokens=5000))


def test_each_key_has_a_quota_of_its_own(simulator: Simulator) -> None:
    async def use(provider: Provider) -> list[str]:
        seen = []
        for key in ("k1", "k2", "k1", "k2", "k3"):
            try:
                await provider.call(CHAT, chat(), model="m", key=key)
                seen.append("ok")
            except Throttled:
                seen.append("throttled")
            except AccountBlocked:
                seen.append("blocked")
        return seen

    simulator.configure(keys=["k1", "k2"], models={"*": {"rpm": 1}})
    assert with_provider(simulator.base_url, use) == ["ok", "ok", "throttled", "throttled", "blocked"]
    assert [entry["key"] for entry in simulator.journal()] == [0, 1, 0, 1, -1]
    simulator.configure(shared_quota=True)
    assert with_provider(simulator.base_url, use) == ["ok", "throttled", "throttled", "throttled", "blocked"]
    simulator.configure(shared_quota=False)


def test_who_comes_early_is_told(simulator: Simulator) -> None:
    simulator.configure(models={"*": {"rpm": 120, "burst_s": 0.5}}, retry_after="ms", grace=0.05)

    async def use(provider: Provider) -> None:
        async def send(job: str) -> None:
            try:
                await provider.call(CHAT, chat(job), model="m", key=KEY)
            except Throttled as error:
                waits.append(error.retry_after or 0.0)

        waits: list[float] = []
        await send("a")
        await send("b")  # asked to wait for half a second
        await asyncio.sleep(0.1)
        await send("b")  # too early, for this job and for all
        await send("c")  # too early for all
        await asyncio.sleep(max(waits) + 0.1)
        await send("b")

    with_provider(simulator.base_url, use)
    journal = simulator.journal()
    assert [(entry["job"], entry["early"], entry["early_job"]) for entry in journal] == [
        ("a", False, False),
        ("b", False, False),
        ("b", True, True),
        ("c", True, False),
        ("b", False, False),
    ]
    stats = simulator.stats()
    assert (stats["early"], stats["early_jobs"], stats["statuses"]) == (2, 1, {"200": 2, "429": 3})
    simulator.configure(grace=0.1)


def test_an_answer_depends_on_its_request_alone(simulator: Simulator) -> None:
    simulator.configure(answer_tokens=[5, 40], latency=[0.0, 0.01])
    first = [call(simulator.base_url, chat(f"job {n}")).body for n in range(5)]
    again = [call(simulator.base_url, chat(f"job {n}")).body for n in range(5)]
    assert first == again
    assert len({answer["usage"]["completion_tokens"] for answer in first}) > 1


def test_failures_by_probability_schedule_and_job() -> None:
    def outcomes(requests: int) -> list[int]:
        service = Service(Config())
        configure(service.config, {"failures": [failure], "seed": 7})
        service.reconfigured({"failures"})
        body = b'{"model":"m","messages":[{"role":"user","content":"the marked one"}]}'
        return [service.plan("/v1/chat/completions", "", {}, body).status for _ in range(requests)]

    failure: dict[str, Any] = {"mode": "500", "probability": 0.25}
    assert 350 < outcomes(2000).count(500) < 650
    failure = {"mode": "500", "after": 2, "every": 3, "times": 2}
    assert outcomes(10) == [200, 200, 500, 200, 200, 500, 200, 200, 200, 200]
    failure = {"mode": "500", "job": "marked"}
    assert outcomes(2) == [500, 500]
    failure = {"mode": "500", "model": "another"}
    assert outcomes(2) == [200, 200]
    failure = {"mode": "500", "start": 1000.0}
    assert outcomes(2) == [200, 200]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modles": {}}, "unknown settings"),
        ({"models": {"*": {"rmp": 1}}}, "rmp"),
        ({"models": {"*": {"counting": "guess"}}}, "counting must be one of"),
        ({"failures": [{"mode": "explode"}]}, "mode must be one of"),
        ({"retry_after": "soon"}, "retry_after must be one of"),
    ],
)
def test_a_setting_that_does_not_exist_is_an_error(simulator: Simulator, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        simulator.configure(**changes)


def test_durations_are_written_as_openai_writes_them() -> None:
    assert [duration(value) for value in (0.02, 1.234, 60.0, 90.5)] == ["20ms", "1.234s", "1m0s", "1m30.5s"]


def test_headers_are_exact() -> None:
    quota = Quota(Model(rpm=60, tpm=6000), 0.0)
    quota.take({"rpm": 1, "tpm": 100}, 0.0)
    assert rate_headers("openai", quota, 0.0, 0.0) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1.000s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5900",
        "x-ratelimit-reset-tokens": "1.000s",
    }
    assert rate_headers("azure", quota, 0.5, 0.0)["x-ratelimit-reset-requests"] == "1"


def test_it_starts_by_its_command_and_ends_with_its_parents_pipe() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.simulator", "--config", '{"latency": 0.01}'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    with process:
        port = int(process.stdout.readline())
        assert call(f"http://127.0.0.1:{port}").status == 200
        process.stdin.close()
        assert process.wait(5) == 0


def test_it_comes_back_on_its_port() -> None:
    simulator = Simulator()
    with simulator:
        first = simulator.base_url
    with simulator:
        assert simulator.base_url == first
        assert call(first).status == 200


def test_it_costs_little_cpu(simulator: Simulator) -> None:
    """A benchmark's provider must not be what is measured: far above 3,000 requests a second on one core."""

    async def use(provider: Provider) -> None:
        jobs = iter(range(3000))

        async def caller() -> None:
            for n in jobs:
                await provider.call(CHAT, chat(f"job {n}"), model="m", key=KEY)

        await asyncio.gather(*(caller() for _ in range(50)))

    simulator.configure(models={"*": {"rpm": 10_000_000, "tpm": 10_000_000_000}})
    before = simulator.stats()["cpu_seconds"]
    started = time.monotonic()
    with_provider(simulator.base_url, use, timeout=30.0)
    used = simulator.stats()["cpu_seconds"] - before
    assert used / 3000 < 1 / 3000
    assert time.monotonic() - started < 30
