"""What an agent's journal is for: between two deliveries of a job, anything may have happened."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tasks.agents.errors import Suspended
from tests import agents
from tests.deliveries import Queue, deliveries
from tests.integration.test_agents import line
from tests.simulator import Simulator
from tests.site import Line, Site, wait_for
from workers.request import Snooze

#: A 429 that is too long to be waited for in a worker.
LONG = {"mode": "429", "retry_after": "60", "times": 1}

TABLES = """
[workflows.nightly]
[workflows.few]
max_calls = 4
[workflows.poor]
max_usd = 0.001
[workflows.quick]
max_seconds = 1.0
"""


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as made:
        yield made


@pytest.fixture(scope="module")
def site(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    price = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"
    with Site(folder, simulator, more='agents = ["tests.agents"]', model=price, tables=TABLES) as made:
        yield made


@pytest.fixture
def run(site: Site, simulator: Simulator) -> Callable[[Callable[[Queue], Awaitable[Any]]], Any]:
    """Runs a test's coroutine beside a worker's runtime; the provider begins anew."""
    simulator.clear()
    simulator.configure(failures=[])

    def within(test: Callable[[Queue], Awaitable[Any]]) -> Any:
        async def whole() -> Any:
            async with deliveries(site) as queue:
                await queue.runtime.client.delete(site.keys.bucket("acme/0/small"))
                return await test(queue)

        return asyncio.run(whole())

    return within


async def after_the_wait(queue: Queue, job: Any) -> Line:
    """One delivery that ends in a wait, and one when it is over."""
    with pytest.raises(Snooze) as caught:
        await queue.deliver(job)
    assert caught.value.seconds > 30
    await queue.runtime.client.delete(queue.runtime.keys.bucket("acme/0/small"))
    return await queue.deliver(job)


def answered(simulator: Simulator) -> list[str]:
    """The calls that the provider has answered, in order."""
    return [entry["job"] for entry in simulator.journal() if entry["status"] == 200]


def test_a_job_goes_on_where_it_was_and_pays_nothing_twice(run: Any, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "job": "/answer"}])

    async def test(queue: Queue) -> None:
        job = queue.job(line("lookup", 11, key="k"))
        result = await after_the_wait(queue, job)
        assert result["response"]["body"]["facts"] == {"key": "k", "pair": [1, 2]}
        record = await queue.journal(job)
        assert record.waits == 1
        assert not record.bodies, "the answers of a job that has ended stay in Redis"
        assert [entry.kind for entry in record.entries.values()] == ["call", "step", "call"]
        billed = sum(entry["cost_nusd"] for entry in simulator.journal())
        assert record.cost == billed
        assert result["overnight"]["cost_usd"] == pytest.approx(billed / 1e9)

    run(test)
    assert agents.RUNS["job-11"] == 1
    assert answered(simulator) == ["job-11/plan", "job-11/answer"]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("waits", ["/0/1", "/2/0", "/1/1", "/last"])
def test_branches_replay_whichever_was_faster(run: Any, simulator: Simulator, waits: str, plain: bool) -> None:
    simulator.configure(failures=[{**LONG, "job": waits}], latency=[0.0, 0.05])

    async def test(queue: Queue) -> Line:
        return await after_the_wait(queue, queue.job(line("branches", 12, plain=plain)))

    result = run(test)
    simulator.configure(latency=0.0)
    assert result["error"] is None
    calls = answered(simulator)
    assert len(calls) == len(set(calls)) == 7


def test_time_and_chance_are_the_same_in_a_replay(run: Any, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "job": "/last"}])

    async def test(queue: Queue) -> None:
        job = queue.job(line("branches", 13))
        with pytest.raises(Snooze):
            await queue.deliver(job)
        before = await queue.journal(job)
        await queue.runtime.client.delete(queue.runtime.keys.bucket("acme/0/small"))
        result = await queue.deliver(job)
        times = [found[2] for found in result["response"]["body"]["found"]]
        ended = [before.entries[f"0.{branch}.1"].at for branch in range(3)]
        assert [time[:19] for time in times] == [agents.at(second)[:19] for second in ended]

    run(test)


def test_an_agent_that_catches_everything_waits_all_the_same(run: Any, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "job": "/1"}])

    async def test(queue: Queue) -> None:
        result = await after_the_wait(queue, queue.job(line("stubborn", 14)))
        assert result["response"]["body"] == {"caught": []}

    run(test)
    assert answered(simulator) == ["job-14/0", "job-14/1", "job-14/2"]


def test_what_a_task_group_cancels_is_finished_and_written(run: Any, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "job": "/0"}], latency=0.3)

    async def test(queue: Queue) -> None:
        job = queue.job(line("group", 15))
        result = await after_the_wait(queue, job)
        assert len(result["response"]["body"]["replies"]) == 3

    run(test)
    simulator.configure(latency=0.0)
    assert sorted(answered(simulator)) == ["job-15/0", "job-15/1", "job-15/2"]


def test_failures_are_replayed_as_they_were(run: Any, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "400", "job": "/refused"}, {**LONG, "job": "/last"}])

    async def test(queue: Queue) -> None:
        result = await after_the_wait(queue, queue.job(line("fallback", 16)))
        assert result["response"]["body"]["told"][1:2] == ["KeyError"]
        assert result["error"] is None

    run(test)
    assert [entry["job"] for entry in simulator.journal()].count("job-16/refused") == 1


def test_a_large_entry_is_a_file_until_the_job_ends(run: Any, simulator: Simulator, site: Site) -> None:
    simulator.configure(failures=[{**LONG, "job": "/last"}])
    folder = site.folder / ".overnight" / "files" / "jobs"

    async def test(queue: Queue) -> None:
        job = queue.job(line("large", 17))
        with pytest.raises(Snooze):
            await queue.deliver(job)
        record = await queue.journal(job)
        assert record.entries["0"].file
        assert not record.bodies
        assert [path.stat().st_size for path in folder.rglob("0.*")] == [200_002]
        await queue.runtime.client.delete(queue.runtime.keys.bucket("acme/0/small"))
        result = await queue.deliver(job)
        assert result["response"]["body"]["length"] == 200_000

    run(test)
    assert not list(folder.rglob("0.*"))


def test_an_agent_that_asks_for_something_else_fails_clearly(run: Any, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "job": "/1"}])

    async def test(queue: Queue) -> Line:
        job = queue.job(line("wandering", 18))
        agents.WORDS[0] = "one"
        with pytest.raises(Snooze):
            await queue.deliver(job)
        agents.WORDS[0] = "another"
        return await queue.deliver(job)

    result = run(test)
    assert result["error"]["code"] == "agent_changed"
    assert "at position 0" in result["error"]["message"]
    assert "its code changed" in result["error"]["message"]
    assert result["overnight"]["cost_usd"] > 0
    assert answered(simulator) == ["job-18/0"]


@pytest.mark.parametrize(
    ("workflow", "name", "code", "calls"),
    [("few", "endless", "max_calls", 4), ("poor", "endless", "max_usd", None), ("quick", "sleeper", "max_seconds", 1)],
)
def test_a_runaway_agent_is_stopped_and_its_cost_told(
    run: Any, simulator: Simulator, workflow: str, name: str, code: str, calls: int | None
) -> None:
    simulator.configure(latency=0.01)

    async def test(queue: Queue) -> Line:
        return await queue.deliver(queue.job(line(name, 19), workflow))

    result = run(test)
    simulator.configure(latency=0.0)
    assert result["error"]["code"] == code
    billed = sum(entry["cost_nusd"] for entry in simulator.journal())
    assert result["overnight"]["cost_usd"] == pytest.approx(billed / 1e9)
    assert 0 < billed < 1_000_000
    assert f"(after {result['overnight']['calls']} call" in result["error"]["message"]
    if calls is not None:
        assert len(answered(simulator)) == result["overnight"]["calls"] == calls


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raising", "ValueError: no good: my-secret"),
        ("unwritable", "returned what JSON cannot hold: the value['when'][0] is a set"),
        ("leaving", "the agent raised SystemExit"),
    ],
)
def test_an_agent_that_fails_says_how_in_its_line_and_nowhere_else(
    run: Any, caplog: pytest.LogCaptureFixture, name: str, words: str
) -> None:
    caplog.set_level(logging.DEBUG)

    async def test(queue: Queue) -> Line:
        return await queue.deliver(queue.job(line(name, 20, secret="my-secret")))

    result = run(test)
    assert result["error"]["code"] == "agent_error"
    assert words in result["error"]["message"]
    assert "my-secret" not in caplog.text
    assert "Simulated" not in caplog.text


def test_whoever_has_lost_the_lease_writes_nothing(run: Any, simulator: Simulator) -> None:
    simulator.configure(latency=0.5)

    async def test(queue: Queue) -> None:
        job = queue.job(line("chain", 21, calls=2))
        slow = asyncio.create_task(queue.deliver(job))
        await asyncio.to_thread(wait_for, lambda: simulator.stats()["in_flight"])
        # As if the first worker had been away for longer than its lease.
        await queue.runtime.client.hset(queue.runtime.keys.job(job.id), mapping={"owner": "another"})  # type: ignore[misc]
        with pytest.raises(Snooze, match="another delivery"):
            await slow
        assert not (await queue.journal(job)).entries

    run(test)
    simulator.configure(latency=0.0)


def test_every_key_of_an_agents_job_has_a_lifetime(run: Any, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "job": "/1"}])

    async def test(queue: Queue) -> None:
        job = queue.job(line("chain", 22, calls=2))
        await after_the_wait(queue, job)
        client = queue.runtime.client
        for key in await client.keys("*"):
            assert await client.ttl(key) > 0, key

    run(test)


def test_a_suspension_passes_what_catches_exceptions() -> None:
    assert not issubclass(Suspended, Exception)
