"""What an agent's journal outlives: a storage that refuses, a wait of a month, calls that the agent gave up."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.agents import run, stored_bodies
from tasks.agents.journal import Journal
from tasks.agents.stored_bodies import LARGE, RETRY_AFTER
from tests.simulator import Simulator
from tests.support.agents import line
from tests.support.delivery import Delivery, Desk
from tests.support.fixtures import desk_fixture
from tests.support.replays import LONG, after_the_wait, agents_at, billed_calls, in_batch
from tests.support.site import wait_for

DAY = 86_400

#: How much slower a call is than those beside it, in seconds, and when an agent gives it up.
SLOW, IMPATIENCE = 0.8, 0.2


desk = desk_fixture(agents_at, answer_tokens=8)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Where the files of single jobs are."""
    folder = tmp_path / ".overnight" / "files" / "jobs"
    folder.mkdir(parents=True)
    return folder


def take_away(files: Path, how: str) -> None:
    """From now on the storage refuses: something else has its folder's name, or it is not mounted."""
    files.rename(files.with_name("away"))
    if how == "broken":
        files.write_text("no folder")
    else:
        files.parent.rename(files.parent.with_name("unmounted"))


def bring_back(files: Path) -> None:
    files.unlink(missing_ok=True)
    unmounted = files.parent.with_name("unmounted")
    if unmounted.exists():
        unmounted.rename(files.parent)
    files.with_name("away").rename(files)


def billed(simulator: Simulator) -> int:
    return sum(entry["cost_nusd"] for entry in simulator.journal())


def test_an_answer_that_the_storage_refuses_is_bought_once(desk: Desk, simulator: Simulator, files: Path) -> None:
    simulator.configure(answer_tokens=30_000)

    async def test() -> None:
        job = desk.job(line("wordy", 31, together=3))
        take_away(files, "broken")
        first = await desk.deliver_job(job)
        assert first.snooze is not None
        assert first.snooze.seconds == RETRY_AFTER
        assert "storage" in first.snooze.reason
        record = await desk.journal(job)
        assert [len(body) > LARGE for body in record.bodies.values()] == [True] * 3
        assert record.wait is not None
        assert "storage" in record.wait["reason"]
        again = await desk.deliver_job(job, first.state)
        assert again.snooze is not None
        assert again.state.crashes == 0
        assert len(simulator.journal()) == 3, "it made a call whose answer would have no place either"
        bring_back(files)
        last = await desk.deliver_job(job, again.state)
        assert last.answered
        assert last.line is not None
        assert len(last.line["response"]["body"]) == 4
        assert last.line["overnight"]["cost_usd"] == pytest.approx(billed(simulator) / 1e9)

    desk.wait(test())
    calls = billed_calls(simulator)
    assert len(calls) == len(set(calls)) == 4
    spent = desk.spent()
    assert (spent.presumed_cost, spent.cost) == (0, billed(simulator))
    assert list(files.iterdir()) == []


@pytest.mark.parametrize("how", ["broken", "unmounted"])
def test_a_replay_waits_for_a_storage_that_it_cannot_read(
    desk: Desk, simulator: Simulator, files: Path, how: str
) -> None:
    simulator.configure(failures=[{**LONG, "job": "/last"}])

    async def test() -> Delivery:
        job = desk.job(line("large", 32))
        first = await desk.deliver_job(job)
        await desk.end_pause()
        take_away(files, how)
        second = await desk.deliver_job(job, first.state)
        assert second.snooze is not None, second.line
        assert second.snooze.seconds == RETRY_AFTER
        bring_back(files)
        return await desk.deliver_job(job, second.state)

    assert desk.wait(test()).answered
    assert billed_calls(simulator) == ["job-32/last"]


def hang_up(files: Path) -> Path:
    """Put a named pipe in the place of the only file, which is called `whole` then."""
    [kept] = files.iterdir()
    kept.rename(files / "whole")
    os.mkfifo(kept)
    return kept


def test_a_storage_that_hangs_makes_a_job_wait(
    desk: Desk, simulator: Simulator, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a named pipe hangs until someone writes, as reading from a network disk that is gone does."""
    monkeypatch.setattr(stored_bodies, "TIMEOUT", 0.3)
    simulator.configure(failures=[{**LONG, "job": "/last"}])

    async def test() -> Delivery:
        job = desk.job(line("large", 40))
        first = await desk.deliver_job(job)
        await desk.end_pause()
        kept = hang_up(files)
        second = await desk.deliver_job(job, first.state)
        assert second.snooze is not None
        assert "has not answered for 0.3 s" in second.snooze.reason
        os.close(os.open(kept, os.O_WRONLY))  # lets the thread go
        (files / "whole").rename(kept)
        return await desk.deliver_job(job, second.state)

    assert desk.wait(test()).answered
    assert billed_calls(simulator) == ["job-40/last"]


def test_a_storage_may_take_a_minute_and_no_longer() -> None:
    assert 10 <= stored_bodies.TIMEOUT <= 60


def test_a_lost_answer_fails_the_job_until_a_retry(desk: Desk, simulator: Simulator, tmp_path: Path) -> None:
    simulator.configure(answer_tokens=30_000, failures=[{**LONG, "job": "/10"}])
    job = in_batch(desk, desk.job(line("wordy", 33)))
    folder = tmp_path / ".overnight" / "files" / "batch_a" / "journal" / "1"

    async def test() -> None:
        first = await desk.deliver_job(job)
        await desk.end_pause()
        (kept,) = folder.iterdir()
        kept.unlink()
        await desk.deliver_job(job, first.state)
        assert desk.client.getbit(desk.keys.failed("batch_a"), 1), "it has failed"
        desk.client.delete(desk.keys.failed("batch_a"))
        await desk.deliver_job(in_batch(desk, job, round="1"))
        assert desk.client.getbit(desk.keys.done("batch_a"), 1)

    desk.wait(test())
    (failed, _), *_ = desk.client.xrange(desk.keys.results("batch_a")), None
    assert b"answer_lost" in failed[1][b"d"]
    assert billed_calls(simulator) == ["job-33/0", "job-33/0", "job-33/10"]


def test_the_id_of_a_job_is_no_path(desk: Desk, files: Path, tmp_path: Path) -> None:
    name = "../../../escaped/deep"

    async def test() -> None:
        job = replace(desk.job(line("large", 34)), task_id=name)
        assert (await desk.deliver_job(job)).answered

    desk.wait(test())
    assert not list(tmp_path.rglob("escaped*"))
    assert list(files.iterdir()) == []


@pytest.mark.parametrize("days", [0, 1.1, 31, 62])
def test_a_journal_lives_longer_than_any_wait(desk: Desk, days: float) -> None:
    async def test() -> None:
        job = desk.job(line("chain", 35))
        delivery = await desk.deliver_job(replace(job, line=replace(job.line, body={"calls": 0})))
        assert delivery.answered
        other = desk.job(line("chain", 36))
        await desk.runtime.client.hset(desk.keys.job(other.id), "owner", "me")  # type: ignore[misc]
        journal = await Journal.open(desk.runtime.server, desk.keys, other, "me", desk.settings.storage)
        await journal.snooze(days * DAY, "the month's budget is spent", {})
        assert await desk.runtime.client.ttl(journal.key) > (days + 7) * DAY
        ended = await Journal.open(desk.runtime.server, desk.keys, job, "me", desk.settings.storage)
        await ended.close()
        assert await desk.runtime.client.ttl(ended.key) <= DAY

    desk.wait(test())


def slow_call(simulator: Simulator, *more: dict[str, object]) -> None:
    slow = {"mode": "drip", "seconds": SLOW, "job": "/slow", "times": 1}
    simulator.configure(failures=[slow, *more])


@pytest.mark.parametrize("way", ["timeout", "wait_for", "race"])
def test_a_replay_gives_up_the_call_that_was_given_up(desk: Desk, simulator: Simulator, way: str) -> None:
    slow_call(simulator, {**LONG, "job": "/last"})

    async def test() -> None:
        job = desk.job(line("impatient", 37, way=way, seconds=IMPATIENCE))
        result = await after_the_wait(desk, job)
        assert result["error"] is None
        assert result["response"]["body"]["path"][0] == "given up"
        assert result["overnight"]["cost_usd"] == pytest.approx(billed(simulator) / 1e9)

    desk.wait(test())
    assert sorted(billed_calls(simulator)) == ["job-37/last", "job-37/middle", "job-37/quick", "job-37/slow"]


def test_a_crash_does_not_repeat_a_call_given_up(desk: Desk, simulator: Simulator) -> None:
    slow_call(simulator)

    async def test() -> Delivery:
        job = desk.job(line("impatient", 38, way="timeout", seconds=IMPATIENCE))
        simulator.configure(latency=IMPATIENCE / 2)
        running = asyncio.create_task(desk.deliver_job(job))
        await asyncio.to_thread(wait_for, lambda: simulator.stats()["requests"] == 3, every=0.01)
        running.cancel()  # as a worker that ends, with the slow call still in flight
        await asyncio.wait([running])
        assert sorted((await desk.journal(job)).entries) == ["1"]
        return await desk.deliver_job(job)

    assert desk.wait(test()).answered
    asked = [entry["job"] for entry in simulator.journal()]
    assert asked.count("job-38/slow") == asked.count("job-38/quick") == 1


def test_an_agent_that_no_longer_gives_up_fails_clearly(
    desk: Desk, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "GIVE_UP_MARGIN", 0.1)
    slow_call(simulator, {**LONG, "job": "/last"})
    asked = line("impatient", 41, way="timeout", seconds=IMPATIENCE)

    async def test() -> Delivery:
        job = desk.job(asked)
        first = await desk.deliver_job(job)
        await desk.end_pause()
        patient = replace(job, line=replace(job.line, body={**job.line.body, "seconds": 3600}))
        return await desk.deliver_job(patient, first.state)

    found = desk.wait(test())
    assert found.failure == "agent_changed"
    assert found.line is not None
    assert "at position 0 of its journal the agent gave up after" in found.line["error"]["message"]


def test_a_call_that_was_given_up_makes_no_job_wait(desk: Desk, simulator: Simulator) -> None:
    """Its first attempt fails; its second, after the job has gone another way, meets a 429 for a minute."""
    simulator.configure(failures=[{"mode": "500", "job": "/slow", "times": 1}, {**LONG, "job": "/slow"}])

    async def test() -> None:
        job = desk.job(line("impatient", 39, way="timeout", seconds=IMPATIENCE))
        assert (await desk.deliver_job(job)).answered
        record = await desk.journal(job)
        assert list(record.given_up) == ["0"]
        assert IMPATIENCE <= record.given_up["0"] < IMPATIENCE + 5
        assert record.entries["0"].code == "given_up"
        assert (record.calls, record.throttled) == (5, 1)

    desk.wait(test())
    assert [entry["job"] for entry in simulator.journal()].count("job-39/slow") == 2
