"""The output has the same bytes wherever a collector is killed or suspended, and with any number of collectors."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

import tasks.jobs.storage
from tasks.batches import collect as collecting
from tasks.batches import results
from tasks.batches.batch import Batch
from tasks.batches.files import ERRORS, OUTPUT
from tasks.jobs.storage import StorageError, open_files
from tests.unit.batches.conftest import World, ended, in_child, is_stopped, killed, stopped


def test_answers_and_failures_have_a_file_each(world: World) -> None:
    batch = world.batch(5)
    world.finish(batch, 2, 4, 5)
    world.finish(batch, 1, ok=False)
    assert world.collect(batch).status == "in_progress"
    assert [line["custom_id"] for line in world.output(batch)] == ["job-2", "job-4", "job-5"]
    world.finish(batch, 3, ok=False)
    batch = world.collect(batch)
    assert (batch.status, batch.completed, batch.failed) == ("completed", 3, 2)
    assert [line["custom_id"] for line in world.errors(batch)] == ["job-1", "job-3"]


def test_a_batch_whose_jobs_all_fail_has_an_empty_output(world: World) -> None:
    batch = world.batch(2)
    world.finish(batch, 1, 2, ok=False)
    assert world.collect(batch).over
    assert world.output(batch) == []
    assert len(world.errors(batch)) == 2


def test_a_step_is_bounded_in_results_and_in_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "STEP_RESULTS", 300)
    monkeypatch.setattr(collecting, "STEP_BYTES", 20_000)
    batch = world.batch(700)
    world.finish(batch, *range(1, 701), pad=60)
    sizes = []
    write_at = tasks.jobs.storage.LocalFiles.write_at

    def spy(self: Any, name: str, offset: int, part: int, data: bytes) -> None:
        sizes.append(len(data))
        write_at(self, name, offset, part, data)

    monkeypatch.setattr(tasks.jobs.storage.LocalFiles, "write_at", spy)
    while not world.collect(batch).over:
        pass
    assert len(world.output(batch)) == 700
    assert max(sizes) < 20_500


# The places where a collector is killed or suspended. Each replaces one function in the child process.


def _after(owner: Any, name: str, what: Callable[[], None], times: int = 1) -> None:
    """Run `what` after the `times`th call of a function."""
    whole = getattr(owner, name)
    calls = [0]

    def faulty(*args: Any, **kwargs: Any) -> Any:
        found = whole(*args, **kwargs)
        calls[0] += 1
        if calls[0] == times:
            what()
        return found

    setattr(owner, name, faulty)


def _before(owner: Any, name: str, what: Callable[[], None]) -> None:
    whole = getattr(owner, name)

    def faulty(*args: Any, **kwargs: Any) -> Any:
        what()
        return whole(*args, **kwargs)

    setattr(owner, name, faulty)


def _in_the_middle_of_a_write(what: Callable[[], None], share: float, times: int = 1) -> None:
    """Write a part of the bytes, run `what`, then write the rest."""
    pwrite = os.pwrite
    calls = [0]

    def faulty(handle: int, data: Any, offset: int) -> int:
        calls[0] += 1
        if calls[0] == times:
            part = bytes(data)[: int(len(data) * share)]
            pwrite(handle, part, offset)
            what()
        return pwrite(handle, data, offset)

    os.pwrite = faulty  # type: ignore[assignment]


FAULTS: dict[str, Callable[[Callable[[], None]], None]] = {
    "before the plan": lambda what: _before(results._Reader, "waiting", what),
    "after the plan": lambda what: _after(results, "next_write", what),
    "after the file was made": lambda what: _in_the_middle_of_a_write(what, 0.0),
    "in the first byte": lambda what: _in_the_middle_of_a_write(what, 0.001),
    "in the middle of the output": lambda what: _in_the_middle_of_a_write(what, 0.5),
    "between the files": lambda what: _after(tasks.jobs.storage.LocalFiles, "write_at", what),
    "in the middle of the errors": lambda what: _in_the_middle_of_a_write(what, 0.5, times=2),
    "before the commit": lambda what: _before(results, "commit", what),
    "after the commit": lambda what: _after(results, "commit", what),
    "in a later step": lambda what: _in_the_middle_of_a_write(what, 0.7, times=5),
    "before the end": lambda what: _before(collecting, "end", what),
    "in the middle of the end": lambda what: _after(tasks.jobs.storage.LocalFiles, "finish", what),
    "before the last word": lambda what: _after(tasks.jobs.storage.LocalFiles, "finish", what, times=2),
}


def _filled(world: World, lines: int) -> Batch:
    """A batch of which 40 lines have ended, 15 of them with a failure; the lines after those repeat them in turn."""
    batch = world.batch(lines, distinct=40)
    world.finish(batch, *range(1, 26), pad=40)
    world.finish(batch, *range(26, 41), ok=False, pad=40)
    return batch


def _bytes(world: World, batch: Batch) -> tuple[bytes, bytes]:
    return world.path(batch, OUTPUT).read_bytes(), world.path(batch, ERRORS).read_bytes()


@pytest.fixture(params=[40, 200], ids=["no copies", "copies"])
def lines(request: pytest.FixtureRequest) -> int:
    return int(request.param)


_undisturbed: dict[int, tuple[bytes, bytes]] = {}


@pytest.fixture
def undisturbed(world: World, monkeypatch: pytest.MonkeyPatch, lines: int) -> tuple[bytes, bytes]:
    """The output and errors of such a batch, whose collector nothing disturbs: collected once for all tests."""
    monkeypatch.setattr(collecting, "STEP_RESULTS", 7)
    monkeypatch.setattr(collecting, "STEP_BYTES", 700 if lines > 40 else 8 << 20)  # so that writes end among copies
    if lines in _undisturbed:
        return _undisturbed[lines]
    batch = _filled(world, lines)
    while not (last := world.collect(batch)).over:
        pass
    assert last.parts > (80 if lines > 40 else 5)
    found = _bytes(world, batch)
    assert (found[0].count(b"\n"), found[1].count(b"\n")) == (lines * 25 // 40, lines * 15 // 40)
    world.store.forget(batch.id)
    open_files(world.storage, batch.id).remove()
    _undisturbed[lines] = found
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_collector_killed_anywhere_changes_nothing(
    world: World, undisturbed: tuple[bytes, bytes], lines: int, fault: str
) -> None:
    batch = _filled(world, lines)

    def child() -> None:
        world.store = world.connect()
        FAULTS[fault](killed)
        while not world.collect(batch).over:
            pass

    assert ended(in_child(child)) == signal.SIGKILL
    while not world.collect(batch).over:
        pass
    assert _bytes(world, batch) == undisturbed


@pytest.mark.parametrize("fault", FAULTS)
def test_a_collector_that_wakes_up_late_changes_nothing(
    world: World, undisturbed: tuple[bytes, bytes], lines: int, fault: str
) -> None:
    """Another collector finishes, the batch is retried and ends again; then the first one wakes up."""
    batch = _filled(world, lines)

    def child() -> None:
        world.store = world.connect()
        FAULTS[fault](stopped)
        while not world.collect(batch).over:
            pass

    pid = in_child(child)
    is_stopped(pid)
    while not world.collect(batch).over:
        pass
    assert _bytes(world, batch) == undisturbed
    assert world.store.retry(world.now(batch), world.now(batch).deadline) == lines * 15 // 40
    world.finish(batch, *range(26, 41))
    while not world.collect(batch).over:
        pass
    before = (world.output(batch), world.errors(batch), _bytes(world, batch), world.now(batch))
    os.kill(pid, signal.SIGCONT)
    assert ended(pid) == 0
    assert (world.output(batch), world.errors(batch), _bytes(world, batch), world.now(batch)) == before
    assert sorted(line["custom_id"] for line in world.output(batch)) == sorted(f"job-{n}" for n in range(1, lines + 1))
    assert world.errors(batch) == []


def test_a_file_longer_than_redis_knows_is_overwritten_and_cut(world: World) -> None:
    """Redis has lost its last second, so the file is longer than the record says."""
    batch = world.batch(3)
    world.finish(batch, 1)
    world.collect(batch)
    path = world.path(batch, OUTPUT)
    path.write_bytes(path.read_bytes() + b'{"from": "a future that never was"' + b" " * 500 + b"}\n")
    world.finish(batch, 2, 3)
    assert world.collect(batch).over
    assert [line["custom_id"] for line in world.output(batch)] == ["job-1", "job-2", "job-3"]


def test_a_file_that_lost_its_beginning_is_an_error(world: World) -> None:
    batch = world.batch(3)
    world.finish(batch, 1, 2)
    world.collect(batch)
    path = world.path(batch, OUTPUT)
    whole = path.read_bytes()
    path.unlink()
    world.finish(batch, 3)
    with pytest.raises(StorageError, match="put it back"):
        world.collect(batch)
    path.write_bytes(whole)
    assert world.collect(batch).over
    assert len(world.output(batch)) == 3


def test_results_that_vanish_from_redis_are_reported(world: World) -> None:
    batch = world.batch(2)
    world.finish(batch, 1, 2)
    assert results.next_write(world.store, world.now(batch), 10, 1000) is not None
    world.store.client.xtrim(world.store.keys.results(batch.id), maxlen=0)
    with pytest.raises(StorageError, match="gone from Redis"):
        world.collect(batch)
