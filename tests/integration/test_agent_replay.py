"""What an agent's journal is for: between two deliveries of a job, anything may have happened."""

import asyncio
from pathlib import Path

import pytest
from celery.worker import state

from tasks.agents.errors import Suspended
from tasks.jobs import retry
from tests.simulator import Simulator
from tests.support import agents
from tests.support.agents import line
from tests.support.delivery import Desk
from tests.support.fixtures import desk_fixture
from tests.support.replays import LONG, after_the_wait, agents_at, billed_calls
from tests.support.site import Line, wait_for

desk = desk_fixture(agents_at)


def test_a_job_resumes_where_it_was_and_pays_nothing_twice(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "job": "/answer"}])

    async def test() -> None:
        job = desk.job(line("lookup", 11, key="k"))
        result = await after_the_wait(desk, job)
        assert result["response"]["body"]["facts"] == {"key": "k", "pair": [1, 2]}
        record = await desk.journal(job)
        assert record.waits == 1
        assert not record.bodies, "the answers of a job that has ended stay in Redis"
        assert [entry.kind for entry in record.entries.values()] == ["call", "step", "call"]
        billed = sum(entry["cost_nusd"] for entry in simulator.journal())
        assert record.cost == billed
        assert result["overnight"]["cost_usd"] == pytest.approx(billed / 1e9)

    desk.wait(test())
    assert agents.RUNS["job-11"] == 1
    assert billed_calls(simulator) == ["job-11/plan", "job-11/answer"]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("waits", ["/0/1", "/2/0", "/1/1", "/last"])
def test_branches_replay_whichever_was_faster(desk: Desk, simulator: Simulator, waits: str, plain: bool) -> None:
    simulator.configure(failures=[{**LONG, "job": waits}], latency=[0.0, 0.05])

    async def test() -> Line:
        return await after_the_wait(desk, desk.job(line("branches", 12, plain=plain)))

    result = desk.wait(test())
    simulator.configure(latency=0.0)
    assert result["error"] is None
    calls = billed_calls(simulator)
    assert len(calls) == len(set(calls)) == 7


def test_time_and_chance_are_the_same_in_a_replay(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "job": "/last"}])

    async def test() -> None:
        job = desk.job(line("branches", 13))
        first = await desk.deliver_job(job)
        assert first.snooze is not None
        before = await desk.journal(job)
        await desk.end_pause()
        result = (await desk.deliver_job(job, first.state)).line
        assert result is not None
        times = [found[2] for found in result["response"]["body"]["found"]]
        ended = [before.entries[f"0.{branch}.1"].at for branch in range(3)]
        assert [time[:19] for time in times] == [agents.at(second)[:19] for second in ended]

    desk.wait(test())


def test_an_agent_that_catches_everything_waits_all_the_same(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "job": "/1"}])

    async def test() -> None:
        result = await after_the_wait(desk, desk.job(line("stubborn", 14)))
        assert result["response"]["body"] == {"caught": []}

    desk.wait(test())
    assert billed_calls(simulator) == ["job-14/0", "job-14/1", "job-14/2"]


def test_what_a_task_group_cancels_is_finished_and_written(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "job": "/0"}], latency=0.3)

    async def test() -> None:
        job = desk.job(line("group", 15))
        result = await after_the_wait(desk, job)
        assert len(result["response"]["body"]["replies"]) == 3

    desk.wait(test())
    simulator.configure(latency=0.0)
    assert sorted(billed_calls(simulator)) == ["job-15/0", "job-15/1", "job-15/2"]


def test_failures_are_replayed_as_they_were(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "400", "job": "/refused"}, {**LONG, "job": "/last"}])

    async def test() -> None:
        result = await after_the_wait(desk, desk.job(line("fallback", 16)))
        assert result["response"]["body"]["told"][1:2] == ["KeyError"]
        assert result["error"] is None

    desk.wait(test())
    assert [entry["job"] for entry in simulator.journal()].count("job-16/refused") == 1


def test_a_large_entry_is_a_file_until_the_job_ends(desk: Desk, simulator: Simulator, tmp_path: Path) -> None:
    simulator.configure(failures=[{**LONG, "job": "/last"}])
    folder = tmp_path / ".overnight" / "files" / "jobs"

    async def test() -> None:
        job = desk.job(line("large", 17))
        first = await desk.deliver_job(job)
        assert first.snooze is not None
        record = await desk.journal(job)
        assert record.entries["0"].file
        assert not record.bodies
        assert [path.stat().st_size for path in folder.iterdir()] == [200_002]
        await desk.end_pause()
        result = (await desk.deliver_job(job, first.state)).line
        assert result is not None
        assert result["response"]["body"]["length"] == 200_000

    desk.wait(test())
    assert not list(folder.iterdir())


def test_an_agent_that_asks_for_something_else_fails_clearly(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "job": "/1"}])

    async def test() -> Line:
        job = desk.job(line("wandering", 18))
        agents.WORDS[0] = "one"
        first = await desk.deliver_job(job)
        assert first.snooze is not None
        agents.WORDS[0] = "another"
        return (await desk.deliver_job(job, first.state)).line

    result = desk.wait(test())
    assert result["error"]["code"] == "agent_changed"
    assert "at position 0" in result["error"]["message"]
    assert "its code changed" in result["error"]["message"]
    assert result["overnight"]["cost_usd"] > 0
    assert billed_calls(simulator) == ["job-18/0"]


def test_whoever_has_lost_the_lease_writes_nothing(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(latency=0.5)

    async def test() -> None:
        job = desk.job(line("chain", 21, calls=2))
        slow = asyncio.create_task(desk.deliver_job(job))
        await asyncio.to_thread(wait_for, lambda: simulator.stats()["in_flight"])
        # As if the first worker had been away for longer than its lease.
        await desk.runtime.client.hset(desk.keys.job(job.id), mapping={"owner": "another"})  # type: ignore[misc]
        found = (await slow).snooze
        assert found is not None
        assert "another delivery" in str(found)
        assert not (await desk.journal(job)).entries

    desk.wait(test())
    simulator.configure(latency=0.0)


def test_a_call_has_its_attempts_over_all_deliveries(
    desk: Desk, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BACKOFF", 10.0)
    simulator.configure(failures=[{"mode": "500", "job": "/1"}])

    async def test() -> Line:
        job, state = desk.job(line("chain", 23, calls=2)), None
        while True:
            found = await desk.deliver_job(job, state)
            if found.line is not None:
                return found.line
            state = found.state

    result = desk.wait(test())
    assert result["error"]["code"] == "agent_error"
    assert "CallFailed" in result["error"]["message"]
    asked = [entry["job"] for entry in simulator.journal()]
    assert asked.count("job-23/0") == 1
    assert asked.count("job-23/1") == 5


def test_a_stopping_worker_puts_agents_back_between_two_calls(
    desk: Desk, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.configure(latency=0.3)

    async def test() -> None:
        job = desk.job(line("chain", 27, calls=3))
        running = asyncio.create_task(desk.deliver_job(job))
        await asyncio.to_thread(wait_for, lambda: simulator.stats()["in_flight"])
        monkeypatch.setattr(state, "should_stop", 0)
        first = await running
        assert first.snooze is not None
        assert first.snooze.seconds == 0
        assert "the worker stops" in str(first.snooze)
        monkeypatch.setattr(state, "should_stop", None)
        assert (await desk.deliver_job(job, first.state)).answered

    desk.wait(test())
    assert billed_calls(simulator) == [f"job-27/{number}" for number in range(3)]


def test_a_broken_off_delivery_loses_only_what_is_in_flight(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(latency=0.3)

    async def test() -> None:
        job = desk.job(line("chain", 28, calls=3))
        running = asyncio.create_task(desk.deliver_job(job))
        await asyncio.to_thread(wait_for, lambda: simulator.stats()["requests"] == 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len((await desk.journal(job)).entries) == 1
        assert (await desk.deliver_job(job)).answered

    desk.wait(test())
    asked = [entry["job"] for entry in simulator.journal()]
    assert asked == ["job-28/0", "job-28/1", "job-28/1", "job-28/2"]


def test_every_key_of_an_agents_job_has_a_lifetime(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{**LONG, "job": "/1"}])

    async def test() -> None:
        job = desk.job(line("chain", 22, calls=2))
        await after_the_wait(desk, job)
        client = desk.runtime.client
        for key in await client.keys(f"{desk.keys.prefix}*"):
            assert await client.ttl(key) > 0, key

    desk.wait(test())


def test_a_suspension_passes_what_catches_exceptions() -> None:
    assert not issubclass(Suspended, Exception)
