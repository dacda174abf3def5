"""Some lines of a batch are answered first; the rest follows when someone says so."""

import json
from collections import Counter
from typing import Any

import pytest

from tasks.batches import window
from tasks.batches.batch import Batch
from tasks.batches.close import close
from tasks.batches.files import INPUT
from tasks.batches.input import Place
from tasks.batches.live import Live
from tasks.batches.pilot import Sample, places
from tasks.batches.pilot_feed import feed_pilot, go_on, is_answered
from tasks.batches.projection import of_lines, projection
from tasks.jobs.storage import open_files
from tests.simulator import Simulator
from tests.support.lane import Lane
from tests.unit.batches.conftest import World


def picked(count: int, total: int) -> list[int]:
    sample = Sample(count)
    for number in range(1, total + 1):
        sample.add(f"job-{number}", Place(number, number * 100, 100))
    return [place.number for place in sample.picked()]


def test_the_same_file_has_the_same_pilot_and_every_line_the_same_chance() -> None:
    assert picked(20, 1_000) == picked(20, 1_000)
    assert len(picked(20, 1_000)) == 20
    halves = Counter(number <= 500 for number in picked(400, 1_000))
    assert 150 < halves[True] < 250


@pytest.mark.parametrize("count", [10, 11, 0])
def test_no_line_or_the_whole_batch_is_no_pilot(count: int) -> None:
    assert picked(count, 10) == []


def piloted(world: World, lines: int = 100, count: int = 5, **more: Any) -> tuple[Batch, list[int]]:
    """A batch with a pilot, and that pilot's lines."""
    batch = world.batch(lines, **more)
    sample, offset = Sample(count), 0
    for number, raw in enumerate(world.path(batch, INPUT).read_bytes().splitlines(keepends=True), 1):
        if number <= lines - batch.copies:
            sample.add(json.loads(raw)["custom_id"], Place(number, offset, len(raw)))
        offset += len(raw)
    sample.save(open_files(world.storage, batch.id))
    world.store.note(batch, pilot=count)
    batch = world.now(batch)
    return batch, [place.number for place in places(batch)]


def feed(world: World, batch: Batch) -> list[int]:
    """One tick of the pilot's feed; the lines that it has handed out."""
    before = len(world.queue)
    feed_pilot(world.store, world.now(batch), world.publish, lambda _: world.messages, 0.0)
    return [line for _, line, _ in world.queue[before:]]


def test_only_the_pilot_is_handed_out_and_then_the_rest_without_it(world: World) -> None:
    batch, pilot = piloted(world)
    assert feed(world, batch) == pilot
    assert feed(world, batch) == []
    assert not is_answered(world.store, world.now(batch))
    world.finish(batch, *pilot)
    assert not is_answered(world.store, world.now(batch)), "no file has its results yet"
    batch = world.collect(batch)
    assert is_answered(world.store, batch)
    go_on(world.store, batch)
    assert not world.now(batch).in_pilot
    rest = world.feed(batch)
    assert sorted(rest + pilot) == list(range(1, 101))
    world.finish(batch, *rest)
    assert world.collect(batch).completed == 100


def test_a_pilot_that_is_handed_out_twice_counts_once(world: World) -> None:
    batch, pilot = piloted(world)
    before = world.now(batch)
    feed(world, batch)
    feed_pilot(world.store, before, world.publish, lambda _: None, 0.0)
    assert (world.now(batch).pilot_fed, world.now(batch).fed) == (5, 5)
    go_on(world.store, batch)
    late = world.now(batch)
    assert not world.store.pilot_fed(late, 3), "a feeder that wakes up late changes nothing"
    assert sorted(world.feed(batch) + pilot) == list(range(1, 101))


def test_a_large_pilot_waits_for_room_in_the_window(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "WINDOW_JOBS", 4)
    batch, pilot = piloted(world, 100, 10)
    assert feed(world, batch) == pilot[:4]
    assert feed(world, batch) == []
    world.finish(batch, *pilot[:4])
    go_on(world.store, batch)
    assert set(pilot[4:]) <= {*_rest(world, batch)}, "what was not handed out yet follows with the rest"


def _rest(world: World, batch: Batch) -> list[int]:
    found: list[int] = []
    while fed := world.feed(batch):
        found += fed
        world.finish(batch, *fed)
    assert world.now(batch).to_feed == 0
    return found


def test_lost_messages_of_a_pilot_are_published_again(world: World) -> None:
    batch, pilot = piloted(world)
    feed(world, batch)
    world.messages, world.queue = 0, []
    assert feed(world, batch) == []
    assert feed(world, batch) == pilot


def test_copies_are_in_no_pilot_and_follow_their_originals(world: World) -> None:
    batch, pilot = piloted(world, 100, 5, distinct=50)
    assert max(pilot) <= 50
    feed(world, batch)
    world.finish(batch, *pilot)
    batch = world.collect(batch)
    assert (batch.completed, batch.in_pilot) == (10, True)
    assert is_answered(world.store, batch)
    assert (projection(batch).answered, projection(batch).lines) == (5, 50)
    go_on(world.store, batch)
    _rest(world, batch)
    assert world.collect(batch).completed == 100


def test_a_cancelled_pilot_ends_its_batch_and_a_retry_has_none(world: World) -> None:
    batch, pilot = piloted(world, 20, 5)
    feed(world, batch)
    world.finish(batch, pilot[0])
    world.store.stop(world.now(batch), "cancelled")
    close(world.store, world.now(batch))
    batch = world.collect(batch)
    assert (batch.status, batch.completed, batch.failed) == ("cancelled", 1, 19)
    assert world.store.retry(batch, batch.deadline) == 19
    assert not world.now(batch).in_pilot
    assert sorted(world.feed(batch)) == sorted({*range(1, 21)} - {pilot[0]})


def test_a_pilot_is_called_live_though_its_batch_may_use_flex(world: World) -> None:
    batch, _ = piloted(world)
    world.store.note(batch, lanes="flex,live")
    seen: list[str] = []
    feed_pilot(world.store, world.now(batch), lambda of, _: seen.append(of.lanes), lambda _: None, 0.0)
    assert seen == [""]


def test_the_batch_lane_waits_for_the_pilot(world: World, simulator: Simulator) -> None:
    batch, pilot = piloted(world, 20, 5)
    lane = Lane(world, simulator, made=batch)
    lane.tick()
    assert (lane.chunks, lane.batch.divided_offset) == ([], 0)
    feed(world, batch)
    world.finish(batch, *pilot)
    go_on(world.store, world.collect(batch))
    lane.run()
    assert sum(chunk.lines for chunk in lane.chunks) == 15


def result(cost: float, *, ok: bool = True, **report: Any) -> dict[str, Any]:
    error = None if ok else {"code": "invalid_request", "message": "no"}
    return {"error": error, "overnight": {"cost_usd": cost, "seconds": 2.0, **report}}


def whole(**fields: Any) -> Batch:
    known = {"total": 1_000, "bytes": 1, "storage": "", "created": 0.0, **fields}
    return Batch(id="batch_1", workflow="nightly", name="", status="in_progress", **known)


def test_a_pilot_is_projected_to_all_lines() -> None:
    cut = result(0.02, checks={"result": "truncated"})
    lines = [*(result(0.01) for _ in range(17)), result(0.03), result(0.0, ok=False), cut]
    found = of_lines(whole(copies=200), lines)
    assert (found.answered, found.lines, found.spent) == (20, 800, 220_000_000)
    assert found.cost == 40 * found.spent
    assert found.lowest < found.cost < found.highest
    assert found.share == pytest.approx(0.1)
    assert found.invalid == {"invalid_request": 1, "truncated": 1}
    low, high = found.shares()
    assert (round(low, 3), round(high, 3)) == (0.028, 0.301)


def test_a_pilot_without_failures_does_not_promise_none() -> None:
    low, high = of_lines(whole(), [result(0.01)] * 20).shares()
    assert low == 0
    assert 0.1 < high < 0.2


def test_the_time_is_that_of_the_limits_corrected_by_the_tokens() -> None:
    limited = whole(expected_seconds=600.0, expected_input=10_000, expected_output=10_000)
    lines = [result(0.01)] * 100
    assert of_lines(limited, lines).seconds == pytest.approx(540)
    twice = whole(
        expected_seconds=600.0, expected_input=10_000, expected_output=10_000, input_tokens=1_000, output_tokens=3_000
    )
    assert of_lines(twice, lines).seconds == pytest.approx(1_080)
    assert of_lines(whole(), lines).seconds == 0
    assert of_lines(whole(), lines, slots=3).seconds == pytest.approx(600)
    assert of_lines(whole(), []).cost == 0


def test_what_other_batches_have_out_leaves_a_pilot_its_turn(world: World) -> None:
    batch, pilot = piloted(world)
    live = Live(world.store, 60.0)
    live.handed_out(batch, 1)
    feed_pilot(world.store, world.now(batch), world.publish, lambda _: None, 0.0, live)
    assert [line for _, line, _ in world.queue] == pilot
