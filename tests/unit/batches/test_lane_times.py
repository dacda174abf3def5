"""How long provider batches take is learned, and used: in the forecast, for new chunks, and for the latest moment."""

from dataclasses import replace

import pytest

from tasks.batches import takeover
from tasks.batches.batch_lane import BatchLane
from tasks.batches.chunk_steps import ChunkSteps
from tasks.batches.estimate import estimate_errors
from tasks.batches.lane_forecast import Carried, LaneTally
from tasks.batches.lane_times import ENOUGH, KEPT, LIFETIME, LaneTimes, Times
from tests.simulator import Simulator
from tests.support.lane import Lane
from tests.unit.batches.conftest import World

TARGET = "acme/small"


def learn(world: World, seconds: list[float], kind: str = "done") -> None:
    world.store.client.rpush(world.store.keys.lane_times(TARGET, kind), *seconds)
    world.store.client.expire(world.store.keys.lane_times(TARGET, kind), LIFETIME)


def test_each_provider_batch_that_ends_is_remembered(world: World, simulator: Simulator) -> None:
    lane = Lane(world, simulator, 60, model={"batch_enqueued_tokens": 400})
    lane.run()
    ended = len(simulator.batches())
    assert ended > 1
    times = LaneTimes(world.store)
    found = times.of(TARGET)
    assert len(found.seconds) == ended
    assert all(0 < seconds < 20 for seconds in found.seconds)
    assert times.of(TARGET, "cancel") == Times()


def test_a_cancelled_provider_batch_counts_with_the_time_that_it_had(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_delay=60.0)
    lane = Lane(world, simulator)
    lane.run(lambda: [chunk.state for chunk in lane.chunks] == ["running"])
    lane.store.stop(lane.batch, "cancelled")
    lane.run()
    times = LaneTimes(world.store)
    assert len(times.of(TARGET).seconds) == len(times.of(TARGET, "cancel").seconds) == 1
    assert times.of(TARGET).within(0.5) == 0.0, "one says nothing about the next ones"


def test_only_the_latest_are_remembered(world: World, simulator: Simulator) -> None:
    learn(world, [600.0] * KEPT)
    lane = Lane(world, simulator)
    lane.run()
    found = LaneTimes(world.store).of(TARGET).seconds
    assert len(found) == KEPT
    assert found[0] < 60


@pytest.mark.parametrize(("part", "seconds"), [(0.5, 3.0), (0.9, 5.0), (1.0, 5.0), (0.01, 1.0)])
def test_a_part_of_them_ends_within_some_seconds(part: float, seconds: float) -> None:
    assert Times((1.0, 2.0, 3.0, 4.0, 5.0)).within(part) == seconds
    assert Times((1.0, 2.0)).within(part) == 0.0


def test_no_chunk_is_sent_that_would_not_end_in_time(world: World, simulator: Simulator) -> None:
    learn(world, [7_200.0] * ENOUGH)
    lane = Lane(world, simulator, deadline=3_600.0)
    world.store.note(lane.batch, models=TARGET)
    lane.run()
    assert simulator.batches() == []
    assert lane.batch.feed_end == lane.batch.bytes, "every line is left to live calls"


def test_a_provider_that_cancels_slowly_is_taken_over_sooner(world: World, simulator: Simulator) -> None:
    lane = Lane(world, simulator)
    simulator.configure(batch_delay=60.0)
    lane.run(lambda: [chunk.state for chunk in lane.chunks] == ["running"])
    before = latest(world, lane)
    learn(world, [60.0, 60.0, 60.0, 60.0, 1_200.0], "cancel")
    assert latest(world, lane) == pytest.approx(before - 1_500 + 0.5, abs=2)
    lane.store.stop(lane.batch, "cancelled")
    lane.run()


def latest(world: World, lane: Lane) -> float:
    """The latest moment of its one chunk."""
    steps = ChunkSteps(world.store, BatchLane(world.store, lane.settings, lane.batch), lane.batch)
    return takeover.latest(lane.batch, steps.cancel_time(lane.chunks[0]))


@pytest.mark.parametrize(("deadline", "carried"), [(8 * 3600.0, True), (3000.0, False)])
def test_the_forecast_says_when_most_will_be_done(
    world: World, simulator: Simulator, deadline: float, carried: bool
) -> None:
    learn(world, [420.0] * 4 + [3_000.0] * 6)
    settings = Lane(world, simulator, workflow={"deadline": deadline}).settings
    tally = LaneTally(settings, "nightly", ("batch", "live"), LaneTimes(world.store))
    tally.targets.add(TARGET)
    found = tally.forecast(Carried(batch=100, cost=50.0), Carried(cost=100.0), total=100, live_cost=100, seconds=10.0)
    assert (found.lines, found.cost) == ((100, 50) if carried else (0, 100))
    if carried:
        assert (found.half, found.nine_tenths) == (3_000.0, 3_000.0)
    else:
        assert "half of the latest provider batches have taken longer" in found.reason


def test_the_end_says_how_far_the_forecast_was_off(world: World) -> None:
    made = world.batch(1)
    ended = replace(
        made, lanes="batch,live", ended=made.began + 100, expected_seconds=10.0, expected_lane_seconds=150.0
    )
    assert estimate_errors(ended) == {"seconds": pytest.approx(0.5)}
    assert estimate_errors(replace(ended, expected_lane_seconds=0.0)) == {}, "nothing was learned when it was submitted"
