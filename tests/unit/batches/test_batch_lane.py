"""The batch lane, tick by tick: a real Valkey, and a provider with a Batch API on loopback."""

import pytest

from tasks.batches import chunk_steps
from tests.simulator import Simulator
from tests.support.lane import Lane
from tests.unit.batches.conftest import World


def statuses(simulator: Simulator) -> list[str]:
    return [each["status"] for each in simulator.batches()]


def test_every_line_comes_back_once_and_is_paid_at_half_the_price(world: World, simulator: Simulator) -> None:
    lane = Lane(world, simulator)
    lane.run()
    assert statuses(simulator) == ["completed"]
    assert len(lane.results()) == 20
    assert lane.live_lines() == []
    lane.assert_books()
    chunk = lane.chunks[0]
    assert (chunk.completed, chunk.failed, chunk.returned) == (20, 0, 0)
    assert chunk.saved == chunk.cost == lane.money().spent


@pytest.mark.parametrize(
    ("mode", "batches", "live"),
    [
        ("lost_upload", 1, 0),
        ("lost_create", 1, 0),
        ("busy_create", 1, 0),
        ("late_file", 1, 0),
        ("refused_create", 0, 20),
        ("bad_line", 1, 20),
        ("expires", 1, 10),
        ("missing", 1, 10),
        ("errors_5xx", 1, 10),
        ("errors_429", 1, 10),
    ],
)
def test_what_brings_no_result_goes_live(
    world: World, simulator: Simulator, mode: str, batches: int, live: int
) -> None:
    simulator.configure(batch_faults=[{"mode": mode}])
    lane = Lane(world, simulator)
    lane.run()
    assert len(simulator.batches()) == batches
    assert len(lane.live_lines()) == len(set(lane.live_lines())) == live
    assert len(lane.results()) == 20 - live
    lane.assert_books()
    world.finish(lane.batch, *lane.live_lines())
    assert (lane.batch.completed, lane.batch.left) == (20, 0)


def test_what_can_be_read_of_a_corrupt_file_counts(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "corrupt"}])
    lane = Lane(world, simulator)
    lane.run()
    assert (len(lane.results()), len(lane.live_lines())) == (13, 7)
    chunk, money = lane.chunks[0], lane.money()
    assert (chunk.completed, chunk.unreadable) == (13, 7)
    assert money.spent >= simulator.stats()["cost_nusd"], "what could not be read was billed, and counts as spent"
    assert money.held == 0


def test_the_providers_words_are_shown_and_not_logged(
    world: World, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    simulator.configure(batch_faults=[{"mode": "bad_line"}])
    lane = Lane(world, simulator)
    lane.run()
    trouble = lane.chunks[0].trouble
    assert trouble.startswith("the provider batch failed: invalid_json_line: ")
    assert "goes live: the provider batch failed: invalid_json_line" in caplog.text
    assert trouble.rpartition(": ")[2] not in caplog.text


def test_a_line_that_the_model_refuses_fails(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "errors_4xx"}])
    lane = Lane(world, simulator)
    lane.run()
    assert (lane.batch.completed, lane.batch.failed, lane.live_lines()) == (10, 10, [])
    lane.assert_books()


def test_a_queue_that_is_full_teaches_its_limit_and_is_waited_for(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "token_limit", "limit": 100_000}])
    lane = Lane(world, simulator)
    lane.run()
    assert statuses(simulator) == ["failed", "completed"]
    assert lane.store.client.hget(lane.store.keys.lane_limits, "acme/small") == b"100000"
    assert lane.live_lines() == []
    lane.assert_books()


def test_a_chunk_that_is_larger_than_the_queue_is_split(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "token_limit", "limit": 100}])
    lane = Lane(world, simulator)
    lane.run()
    assert statuses(simulator) == ["failed"] + ["completed"] * (len(simulator.batches()) - 1)
    assert [each["lines"] for each in simulator.batches()] == [20, 10, 10]
    assert len(lane.results()) == 20
    assert lane.live_lines() == []
    lane.assert_books()


def test_after_a_refusal_no_other_chunk_is_tried(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "refused_create"}])
    lane = Lane(world, simulator, 60, model={"batch_enqueued_tokens": 400})
    lane.run()
    assert simulator.batches() == []
    assert len(lane.live_lines()) + sum(1 for _ in lane.results()) + lane_left(lane) == 60
    lane.assert_books()


def lane_left(lane: Lane) -> int:
    """Lines that were never in the batch lane: the feed takes them."""
    return lane.batch.total - lane.batch.fed


@pytest.mark.long
def test_two_chunks_fit_into_the_queue(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_delay=3.0)
    lane = Lane(world, simulator, 60, model={"batch_enqueued_tokens": 400})
    most: list[int] = []

    def done() -> bool:
        running = [chunk for chunk in lane.chunks if chunk.state in {"running", "creating", "uploading"}]
        most.append(sum(chunk.tokens for chunk in running))
        return bool(lane.chunks) and lane.batch.divided_offset >= lane.batch.bytes and lane.batch.completed == 60

    lane.run(done)
    lane.run()
    assert all(chunk.tokens <= 200 for chunk in lane.chunks)
    assert 200 < max(most) <= 400
    assert lane.live_lines() == []
    lane.assert_books()


@pytest.mark.long
def test_a_budget_that_binds_in_the_middle_is_never_exceeded(world: World, simulator: Simulator) -> None:
    simulator.configure(answer_tokens=40)
    lane = Lane(world, simulator, 24, workflow={"budget_usd": 0.001, "budget_window": "batch"})
    lane.run(seconds=60.0)
    money = lane.money()
    assert lane.highest <= money.limit
    assert money.spent == simulator.stats()["cost_nusd"]
    assert money.held == 0
    assert len(lane.results()) + len(lane.live_lines()) == 24
    assert lane.results()
    assert lane.live_lines(), "the budget was too small for all"


@pytest.mark.long
def test_at_the_latest_moment_the_rest_goes_live(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_delay=60.0)
    lane = Lane(world, simulator, deadline=12.0, workflow={"batch_min_time": 0.5}, provider={"batch_cancel_time": 6})
    lane.run()
    assert statuses(simulator) == ["cancelled"]
    assert len(lane.live_lines()) > 10
    assert len(lane.results()) + len(lane.live_lines()) == 20
    lane.assert_books()


@pytest.mark.long
def test_a_provider_batch_that_never_ends_does_not_hold_its_lines(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "hang"}])
    lane = Lane(world, simulator, deadline=8.0, workflow={"batch_min_time": 0.5})
    lane.run(lambda: len(lane.live_lines()) == 20)
    held = lane.money().held
    assert held > 0, "its money stays held: it may still be billed"
    world.finish(lane.batch, *lane.live_lines())
    assert lane.batch.left == 0
    assert lane.money().held == held


def test_without_time_every_line_goes_live(world: World, simulator: Simulator) -> None:
    lane = Lane(world, simulator, deadline=3.0, workflow={"batch_min_time": 60.0})
    lane.run()
    assert simulator.batches() == []
    assert (lane.chunks, lane.batch.feed_end) == ([], lane.batch.bytes)


def test_cancelling_a_batch_cancels_its_provider_batches(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_delay=1.0)
    lane = Lane(world, simulator)
    lane.run(lambda: [chunk.state for chunk in lane.chunks] == ["running"])
    lane.store.stop(lane.batch, "cancelled")
    lane.run()
    assert statuses(simulator) == ["cancelled"]
    assert lane.live_lines() == []
    assert lane.batch.offloaded == 0
    lane.assert_books()


def test_the_next_round_uses_the_batch_lane_again(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "errors_4xx"}])
    lane = Lane(world, simulator)
    lane.run()
    world.collect(lane.batch)
    assert lane.batch.status == "completed"
    assert lane.store.retry(lane.batch, lane.batch.deadline) == 10
    lane.run()
    assert [each["lines"] for each in simulator.batches()] == [20, 10]
    assert (lane.batch.completed, lane.live_lines()) == (20, [])


def test_a_lost_create_is_given_longer_than_a_create_can_take() -> None:
    timeouts = 15.0 + 60.0  # to connect, and to answer
    assert chunk_steps.FRESH + timeouts < 120.0 == chunk_steps.LOST_AFTER
