"""Agents' jobs of batches: attempts over deliveries, retries' rounds, cancelling."""

import asyncio
import json
from typing import Any

import pytest

from tests.simulator import Simulator
from tests.support import agents
from tests.support.agents import line
from tests.support.delivery import Desk
from tests.support.fixtures import desk_fixture
from tests.support.replays import agents_at, billed_calls, in_batch
from tests.support.site import Line, wait_for

desk = desk_fixture(agents_at)


def results(desk: Desk) -> list[Line]:
    """The result lines of that batch, in order."""
    entries: Any = desk.client.xrange(desk.keys.results("batch_a"))
    return [json.loads(fields[b"d"]) for _, fields in entries]


def test_a_new_round_takes_over_what_still_fits(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "400", "job": "/2", "times": 1}])
    first = in_batch(desk, desk.job(line("chain", 24, calls=4)))

    async def test() -> None:
        await desk.deliver_job(first)
        assert results(desk)[0]["error"]["code"] == "agent_error"
        desk.client.delete(desk.keys.failed("batch_a"))
        await desk.deliver_job(in_batch(desk, first, round="1"))

    desk.wait(test())
    again = results(desk)[1]
    assert len(again["response"]["body"]["texts"]) == 4
    assert billed_calls(simulator) == [f"job-24/{number}" for number in range(4)]
    in_second_round = sum(entry["cost_nusd"] for entry in simulator.journal()[3:])
    assert again["overnight"]["cost_usd"] == pytest.approx(in_second_round / 1e9)
    total = sum(entry["cost_nusd"] for entry in simulator.journal())
    assert int(desk.client.hget(desk.keys.batch("batch_a"), "cost") or 0) == total


def test_a_round_of_changed_code_pays_only_for_what_differs(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "400", "job": "/1", "times": 1}])
    first = in_batch(desk, desk.job(line("wandering", 25)))

    async def test() -> None:
        agents.WORDS[0] = "one"
        await desk.deliver_job(first)
        agents.WORDS[0] = "another"
        desk.client.delete(desk.keys.failed("batch_a"))
        await desk.deliver_job(in_batch(desk, first, round="1"))

    desk.wait(test())
    assert results(desk)[1]["error"] is None
    assert billed_calls(simulator) == ["job-25/0", "job-25/0", "job-25/1"]


def test_a_cancelled_batch_stops_its_agents_at_their_next_call(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(latency=0.3)
    job = in_batch(desk, desk.job(line("chain", 26, calls=50)))

    async def test() -> None:
        running = asyncio.create_task(desk.deliver_job(job))
        await asyncio.to_thread(wait_for, lambda: simulator.stats()["in_flight"])
        desk.client.hset(desk.keys.batch("batch_a"), "status", "cancelling")
        await running

    desk.wait(test())
    (result,) = results(desk)
    assert result["error"]["code"] == "batch_cancelled"
    assert result["overnight"]["cost_usd"] > 0
    assert 1 <= len(billed_calls(simulator)) <= 2
