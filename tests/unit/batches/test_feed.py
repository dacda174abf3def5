"""Every line is published, the window is bounded, and feeders may overlap, be killed or be suspended."""

import os
import signal
from typing import Any

import pytest

import tasks.batches.feed as feeding
from tasks.batches import window
from tasks.batches.batch import Batch
from tasks.batches.feed import Row, feed
from tasks.batches.files import INPUT
from tasks.jobs.storage import StorageError
from tests.unit.batches.conftest import World, ended, in_child, is_stopped, killed, stopped


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "real" in request.fixturenames:
        return
    monkeypatch.setattr(window, "WINDOW_JOBS", 20)
    monkeypatch.setattr(feeding, "STEP", 5)


@pytest.fixture
def real() -> None:
    """Use the real window."""


def test_the_window_is_bounded_and_refilled_as_jobs_end(world: World) -> None:
    batch = world.batch(50)
    assert world.feed(batch) == list(range(1, 21))
    assert world.feed(batch) == []
    world.finish(batch, *range(1, 11))
    assert world.feed(batch) == list(range(21, 31))
    world.finish(batch, *range(11, 31))
    assert world.feed(batch) == list(range(31, 51))
    assert world.feed(batch) == []
    assert world.now(batch).fed == 50


def test_jobs_in_flight_do_not_fill_the_window(world: World) -> None:
    batch = world.batch(50)
    world.feed(batch)
    for line in range(1, 16):
        assert world.begin(batch, line) == "run"
    assert world.feed(batch) == list(range(21, 36))


def test_large_lines_make_a_small_window(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "WINDOW_BYTES", 36_000)
    batch = world.batch(50, text="x" * 5_000)
    assert len(world.feed(batch)) == 5


def test_live_batches_share_the_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "WINDOW_BYTES", 60_000)
    first = world.batch(50, text="x" * 5_000)
    second = world.batch(50, name="batch_2", text="y" * 5_000)
    assert [len(world.feed(batch)) for batch in (first, second)] == [8, 2]
    world.finish(first, *range(1, 9))
    assert [len(world.feed(batch)) for batch in (first, second, second)] == [7, 1, 0], "each comes closer to a half"


def test_nothing_is_handed_out_while_results_wait_to_be_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "MAX_UNWRITTEN", 8)
    batch = world.batch(50)
    world.feed(batch)
    world.finish(batch, *range(1, 21))
    assert world.feed(batch) == []
    world.collect(batch)
    assert world.feed(batch) == list(range(21, 41))


def test_blank_lines_and_a_byte_order_mark_are_skipped(world: World) -> None:
    batch = world.batch(4)
    path = world.path(batch, INPUT)
    lines = path.read_bytes().splitlines(keepends=True)
    content = b"\xef\xbb\xbf" + lines[0] + b"\n  \n" + lines[1] + b"\r\n" + lines[2] + lines[3].rstrip(b"\n")
    path.write_bytes(content)
    world.store.note(batch, bytes=len(content))
    assert world.feed(batch) == [1, 4, 6, 7]
    assert world.now(batch).fed == 4


def _child(world: World, batch: Batch, what: Any) -> None:
    """A feeder that runs `what` after it has published and before it saves its offset."""
    store = world.connect()
    calls = [0]

    def publish(_: Batch, rows: list[Row]) -> None:
        store.client.rpush("published", *[row.number for row in rows])
        store.client.expire("published", 60)
        calls[0] += 1
        if calls[0] == 2:
            what()

    found = store.batch(batch.id)
    assert found is not None
    feed(store, found, publish, lambda _: None)


def _published(world: World) -> list[int]:
    return [int(line) for line in world.store.client.lrange("published", 0, -1)]


def test_a_feeder_killed_before_it_saves_its_offset(world: World) -> None:
    batch = world.batch(50)
    assert ended(in_child(lambda: _child(world, batch, killed))) == signal.SIGKILL
    assert _published(world) == list(range(1, 11))
    assert world.now(batch).fed == 5
    assert world.feed(batch) == list(range(6, 21))


def test_a_feeder_that_wakes_up_late_does_no_harm(world: World) -> None:
    batch = world.batch(50)
    pid = in_child(lambda: _child(world, batch, stopped))
    is_stopped(pid)
    world.finish(batch, *_published(world))
    while world.now(batch).done < 50:
        world.feed(batch)
        world.finish(batch, *[line for _, line, _ in world.queue])
    assert [line for _, line, _ in world.queue] == list(range(6, 51))
    os.kill(pid, signal.SIGCONT)
    assert ended(pid) == 0
    found = world.now(batch)
    assert (found.fed, found.fed_line, found.fed_offset) == (50, 50, found.bytes)


def test_a_feeder_of_an_older_round_cannot_move_the_new_one(world: World) -> None:
    batch = world.batch(50)
    pid = in_child(lambda: _child(world, batch, stopped))
    is_stopped(pid)
    world.finish(batch, *range(1, 51), ok=False)
    assert world.collect(batch).over
    assert world.store.retry(world.now(batch), batch.deadline) == 50
    os.kill(pid, signal.SIGCONT)
    ended(pid)
    assert world.now(batch).fed_offset == 0
    assert world.feed(batch) == list(range(1, 21))


def test_a_new_round_hands_out_the_failed_jobs(world: World) -> None:
    batch = world.batch(30)
    world.finish(batch, *range(1, 26))
    world.finish(batch, 26, 27, 28, 29, 30, ok=False)
    world.collect(batch)
    world.store.retry(world.now(batch), batch.deadline)
    world.begin(batch, 26)
    world.finish(batch, 26)  # one copy has ended before the second feeder reads the line
    assert world.feed(batch) == [26, 27, 28, 29, 30]
    assert world.now(batch).fed == 30
    assert {round_ for _, _, round_ in world.queue} == {1}


def test_a_changed_input_is_reported(world: World) -> None:
    batch = world.batch(10)
    path = world.path(batch, INPUT)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match="was changed"):
        world.feed(batch)
    path.unlink()
    with pytest.raises(StorageError, match="is not there"):
        world.feed(batch)
    path.write_bytes(whole)
    assert world.feed(batch)[-1] == 10


def test_lost_messages_are_published_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000_000.0]
    monkeypatch.setattr(feeding.time, "time", lambda: clock[0])
    batch = world.batch(10)
    world.messages = 10
    world.feed(batch)
    world.finish(batch, 1, 2)
    world.begin(batch, 3)
    world.messages = 8
    assert world.feed(batch) == []
    world.messages = 6  # two are lost
    assert world.feed(batch) == []
    clock[0] += feeding.LOST_AFTER / 2
    assert world.feed(batch) == []
    clock[0] += feeding.LOST_AFTER / 2 + 1
    assert world.feed(batch) == [4, 5, 6, 7, 8, 9, 10]
    world.messages = 13
    clock[0] += 10 * feeding.LOST_AFTER
    assert world.feed(batch) == []


def test_a_message_missing_for_a_moment_is_not_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000_000.0]
    monkeypatch.setattr(feeding.time, "time", lambda: clock[0])
    batch = world.batch(10)
    world.messages = 10
    world.feed(batch)
    for _ in range(5):
        world.messages = 9
        assert world.feed(batch) == []
        clock[0] += feeding.LOST_AFTER * 0.7
        world.messages = 10
        assert world.feed(batch) == []
        clock[0] += feeding.LOST_AFTER * 0.7


def test_two_batches_of_a_workflow_publish_missing_lines_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000_000.0]
    monkeypatch.setattr(feeding.time, "time", lambda: clock[0])
    first, second = world.batch(10), world.batch(10, name="batch_2")
    world.messages = 20
    world.feed(first)
    world.feed(second)
    world.messages = 19
    for _ in range(3):
        for batch in (first, second):
            world.feed(batch)
        clock[0] += feeding.LOST_AFTER / 1.9
    assert len(world.queue) == 40  # each batch publishes what may be its own


@pytest.mark.usefixtures("real")
def test_a_window_smaller_than_a_refill_is_filled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "WINDOW_BYTES", 500_000)
    batch = world.batch(230, text="x" * 1_600)
    handed_out: list[int] = []
    while len(handed_out) < 230:
        lines = world.feed(batch)
        assert lines, f"{len(handed_out)} lines were handed out, and no more are"
        world.finish(batch, *lines)
        handed_out += lines
    assert handed_out == list(range(1, 231))


@pytest.mark.usefixtures("real")
def test_lines_larger_than_the_others_stay_within_the_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "WINDOW_BYTES", 1_000_000)
    monkeypatch.setattr(feeding, "STEP_BYTES", 160_000)
    batch = world.batch(1_000)
    small = world.path(batch, INPUT).read_bytes().splitlines(keepends=True)
    large = world.path(world.batch(20, name="batch_2", text="x" * 160_000), INPUT).read_bytes().splitlines(True)
    world.store.forget("batch_2")
    content = b"".join(large + small[20:])
    world.path(batch, INPUT).write_bytes(content)
    world.store.note(batch, bytes=len(content))
    while world.now(batch).fed < 20:
        before = world.now(batch).fed
        assert len(world.feed(batch)) <= 5
        assert world.now(batch).fed >= 20 or world.feed(batch) == [], "it knows by now how large they are"
        world.finish(batch, *range(before + 1, world.now(batch).fed + 1))
    world.feed(batch)
    world.finish(batch, *range(21, world.now(batch).fed + 1))
    assert len(world.feed(batch)) > 100


@pytest.mark.usefixtures("real")
def test_a_line_that_does_not_fit_is_reported_as_trouble(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "WINDOW_BYTES", 1_000)
    first, second, third = (world.batch(3, name=f"batch_{number}", text="x" * 800) for number in range(3))
    assert [world.feed(batch) for batch in (first, second)] == [[1], [1]]
    with pytest.raises(StorageError, match="don't fit beside those of other batches"):
        world.feed(third)
    world.finish(first, 1)
    assert world.feed(third) == [1]
