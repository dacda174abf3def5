"""Providers that don't list, or don't cancel; and a budget's window that ends while a chunk is away."""

import time
from datetime import UTC, datetime

import pytest

from limits.budget import BudgetWindow
from limits.snapshot import BudgetState, snapshot
from tasks.batches import chunk_steps
from tests.simulator import Simulator
from tests.support.lane import Lane
from tests.unit.batches.conftest import World
from workers.models import budgets

NO_LIST = [{"mode": "lost_create"}, {"mode": "absent_list", "times": 10**6}]


@pytest.mark.long
def test_a_provider_that_lists_nothing_gets_no_second_create(
    world: World, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_steps, "AGAIN", 0.02)
    simulator.configure(batch_faults=NO_LIST)
    lane = Lane(world, simulator)
    looks: list[float] = []

    def waited() -> bool:
        (chunk, *_) = lane.chunks or [None]
        if chunk is not None and chunk.state == "creating" and chunk.trouble:
            looks.append(chunk.due)
        return len(set(looks)) > 20

    lane.run(waited)
    assert len(simulator.batches()) == 1
    assert lane.live_lines() == []
    assert lane.money().held > 0


@pytest.mark.long
def test_a_batch_whose_create_is_unknown_is_done_in_time(world: World, simulator: Simulator) -> None:
    """Its lines go live at the last moment, and its money stays held: it may be billed."""
    simulator.configure(batch_faults=NO_LIST)
    lane = Lane(world, simulator, deadline=6.0, workflow={"batch_min_time": 0.5})
    lane.run(lambda: len(lane.live_lines()) == 20)
    assert len(simulator.batches()) == 1
    held = lane.money().held
    world.finish(lane.batch, *lane.live_lines())
    for _ in range(5):
        lane.tick()
    assert lane.batch.left == 0
    assert held == lane.money().held > 0
    assert len(simulator.batches()) == 1


def test_a_person_who_cancels_the_batch_ends_the_search(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_faults=NO_LIST)
    lane = Lane(world, simulator, provider={"batch_cancel_time": 0.2})
    lane.run(lambda: [chunk.state for chunk in lane.chunks] == ["creating"] and bool(lane.chunks[0].trouble))
    lane.store.stop(lane.batch, "cancelled")
    lane.run(lambda: lane.batch.offloaded == 0)
    assert lane.chunks[0].abandoned
    assert lane.live_lines() == []
    assert lane.money().held > 0
    assert len(simulator.batches()) == 1


@pytest.mark.long
def test_a_provider_that_ignores_a_cancel_is_billed_once_for_each_copy(world: World, simulator: Simulator) -> None:
    """Its lines go live in time although it may still answer them. What it bills later is booked, and no result is."""
    simulator.configure(batch_delay=9.0, batch_faults=[{"mode": "deaf"}])
    lane = Lane(world, simulator, deadline=7.0, workflow={"batch_min_time": 0.5})
    lane.run(lambda: len(lane.live_lines()) == 20)
    assert lane.money().held > 0
    world.finish(lane.batch, *lane.live_lines())
    assert lane.batch.left == 0
    lane.run(seconds=30.0)
    assert [each["status"] for each in simulator.batches()] == ["completed"]
    money = lane.money()
    assert (money.spent, money.held) == (simulator.stats()["cost_nusd"], 0)
    assert all(count == 1 for count in lane.results().values())
    assert len(lane.results()) == 20


def windows(lane: Lane) -> list[BudgetState]:
    """The workflow's budget of today, and of tomorrow."""
    (day,) = budgets.windows(lane.settings, "nightly", lane.id, time.time())
    both = [BudgetWindow(day.subject, day.limit, name) for name in (day.window, day.next_window)]
    return list(lane.store.server.run(snapshot(lane.store.keys, budgets=both)).budgets)


@pytest.mark.long
def test_a_window_that_ends_while_a_chunk_is_away_pays_for_it(world: World, simulator: Simulator) -> None:
    simulator.configure(answer_tokens=40, batch_delay=0.5)
    ahead = (23 - datetime.now(UTC).hour + 12) % 24 - 12  # hours to a place where it is between 23:00 and midnight
    workflow = {"budget_usd": 0.0015, "budget_window": "day", "timezone": f"Etc/GMT{-ahead:+d}"}
    lane = Lane(world, simulator, 24, workflow=workflow)
    highest = [0, 0]

    def note() -> None:
        for index, state in enumerate(windows(lane)):
            highest[index] = max(highest[index], state.spent + state.held)

    lane.run(lambda: any(chunk.state == "running" for chunk in lane.chunks))
    note()
    first = sum(chunk.held for chunk in lane.chunks)  # others may be on their way already
    (day,) = budgets.windows(lane.settings, "nightly", lane.id, time.time())
    lane.store.client.set(lane.store.keys.clock, day.until + 1_000_000, ex=86_400)

    def done() -> bool:
        note()
        lane.store.client.incrby(lane.store.keys.clock, 500_000)  # it stands still otherwise
        chunks = lane.chunks
        return lane.batch.divided_offset >= lane.batch.bytes and all(chunk.state == "closed" for chunk in chunks)

    lane.run(done, seconds=60.0)
    today, tomorrow = windows(lane)
    assert 0 < today.spent <= first
    assert tomorrow.spent > 0, "the other chunks were held after midnight"
    assert today.spent + tomorrow.spent == simulator.stats()["cost_nusd"]
    assert (today.held, tomorrow.held) == (0, 0)
    assert max(highest) <= today.limit
    assert len(lane.results()) + len(lane.live_lines()) == 24
