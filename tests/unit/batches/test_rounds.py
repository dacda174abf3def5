"""Batches that are cancelled, expire, or are retried."""

import json
import time
from dataclasses import replace

import pytest

import tasks.batches.close as closing
from tasks.batches.batch import Batch
from tasks.batches.close import close
from tasks.batches.files import INPUT
from tasks.jobs.storage import StorageError
from tests.unit.batches.conftest import World


def _stop(world: World, batch: Batch, ending: str = "cancelled") -> Batch:
    return world.store.stop(world.now(batch), ending)  # type: ignore[arg-type]  # one of two


def _close(world: World, batch: Batch) -> None:
    close(world.store, world.now(batch))


def test_cancelling_ends_waiting_jobs_and_lets_calls_finish(world: World) -> None:
    batch = world.batch(10)
    world.feed(batch)
    world.finish(batch, 1, 2)
    assert world.begin(batch, 3) == "run"
    _stop(world, batch)
    assert world.begin(batch, 4) == "stopped"
    _close(world, batch)
    assert world.collect(batch).status == "cancelling"
    world.finish(batch, 3)
    batch = world.collect(batch)
    assert (batch.status, batch.completed, batch.failed) == ("cancelled", 3, 7)
    assert {line["custom_id"] for line in world.output(batch)} == {"job-1", "job-2", "job-3"}
    codes = {line["custom_id"]: line["error"]["code"] for line in world.errors(batch)}
    assert codes == {f"job-{number}": "batch_cancelled" for number in range(4, 11)}


def test_a_dead_workers_job_is_ended_after_its_lease(world: World) -> None:
    batch = world.batch(3)
    world.feed(batch)
    world.begin(batch, 2)
    _stop(world, batch)
    _close(world, batch)
    assert world.now(batch).failed == 2
    world.store.client.zadd(world.store.keys.job_leases(batch.id), {"2": 1})
    _close(world, batch)
    assert world.collect(batch).status == "cancelled"
    assert len(world.errors(batch)) == 3


def test_close_waits_for_the_collector(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "MAX_UNWRITTEN", 40)
    monkeypatch.setattr(closing, "STEP", 10)
    batch = world.batch(200)
    _stop(world, batch, "expired")
    ticks = 0
    while not world.now(batch).over:
        _close(world, batch)
        assert world.store.waiting(batch.id) <= 50
        world.collect(batch)
        ticks += 1
    assert 4 <= ticks <= 10
    assert world.now(batch).status == "expired"
    assert len(world.errors(batch)) == 200


def test_an_expired_jobs_error_says_so(world: World) -> None:
    batch = world.batch(1)
    _stop(world, batch, "expired")
    assert world.now(batch).shown_status == "finalizing"
    _close(world, batch)
    world.collect(batch)
    assert world.errors(batch)[0]["error"] == {
        "code": "batch_expired",
        "message": "the batch's deadline passed before this job ran",
    }


def test_a_retry_runs_only_failed_jobs_in_the_same_batch(world: World) -> None:
    batch = world.batch(6)
    world.feed(batch)
    world.finish(batch, 1, 3, 5)
    world.finish(batch, 2, 4, 6, ok=False)
    assert world.collect(batch).over
    assert world.store.retry(world.now(batch), time.time() + 100) == 3
    batch = world.now(batch)
    assert (batch.status, batch.round, batch.completed, batch.failed) == ("in_progress", 1, 3, 0)
    assert world.feed(batch) == [2, 4, 6]
    assert world.begin(batch, 2, round_=0) == "stale"
    assert world.begin(batch, 1) == "done"
    assert world.begin(batch, 2) == "run"
    world.finish(batch, 2, 4)
    world.finish(batch, 6, ok=False)
    batch = world.collect(batch)
    assert (batch.status, batch.completed, batch.failed) == ("completed", 5, 1)
    assert [line["custom_id"] for line in world.output(batch)] == ["job-1", "job-3", "job-5", "job-2", "job-4"]
    assert [(line["custom_id"], line["error"]["message"]) for line in world.errors(batch)] == [("job-6", "in round 1")]


def test_a_late_result_of_an_older_round_changes_nothing(world: World) -> None:
    batch = world.batch(2)
    world.finish(batch, 1, 2, ok=False)
    world.collect(batch)
    world.store.retry(world.now(batch), time.time() + 100)
    world.finish(batch, 1, round_=0)
    assert world.now(batch).completed == 0
    world.finish(batch, 1, 2)
    assert world.collect(batch).completed == 2


def test_only_an_ended_batch_can_be_retried(world: World) -> None:
    batch = world.batch(2)
    assert world.store.retry(batch, time.time() + 100) is None
    world.finish(batch, 1, 2, ok=False)
    batch = world.collect(batch)
    assert world.store.retry(batch, time.time() + 100) == 2
    assert world.store.retry(batch, time.time() + 100) is None


def test_a_batch_without_failures_has_nothing_to_retry(world: World) -> None:
    batch = world.batch(1)
    world.finish(batch, 1)
    assert world.store.retry(world.collect(batch), time.time() + 100) == 0
    assert world.now(batch).over


def test_a_cancelled_batch_can_be_retried(world: World) -> None:
    batch = world.batch(5)
    world.feed(batch)
    world.finish(batch, 1)
    _stop(world, batch)
    _close(world, batch)
    assert world.collect(batch).status == "cancelled"
    assert world.store.retry(world.now(batch), time.time() + 100) == 4
    assert world.feed(batch) == [2, 3, 4, 5]
    world.finish(batch, 2, 3, 4, 5)
    assert world.collect(batch).status == "completed"
    assert len(world.output(batch)) == 5


def test_a_stopped_batch_without_its_input_ends_as_failed(world: World) -> None:
    batch = world.batch(5)
    world.feed(batch)
    world.begin(batch, 1)
    world.path(batch, INPUT).unlink()
    _stop(world, batch)
    _close(world, batch)
    assert not world.now(batch).over  # a call is in flight
    world.finish(batch, 1)
    _close(world, batch)
    assert not world.now(batch).over  # its answer is not written yet
    world.collect(batch)
    _close(world, batch)
    batch = world.now(batch)
    assert batch.status == "failed"
    assert "4 jobs have no line" in batch.trouble
    assert len(world.output(batch)) == 1


def test_a_batch_whose_input_is_back_runs_the_remaining_jobs(world: World) -> None:
    batch = world.batch(5)
    world.feed(batch)
    world.finish(batch, 1)
    content = world.path(batch, INPUT).read_bytes()
    world.path(batch, INPUT).unlink()
    _stop(world, batch)
    world.collect(batch)
    _close(world, batch)
    assert world.now(batch).status == "failed"
    world.path(batch, INPUT).write_bytes(content)
    assert world.store.retry(world.now(batch), time.time() + 100) == 4
    assert world.feed(batch) == [2, 3, 4, 5]
    world.finish(batch, 2, 3, 4, 5)
    assert world.collect(batch).completed == 5


def test_an_unreachable_storage_does_not_end_a_batch(world: World) -> None:
    batch = world.batch(5)
    _stop(world, batch)
    folder = world.path(batch, "")
    folder.rename(folder.with_name("away"))
    with pytest.raises(StorageError):
        _close(world, batch)
    folder.with_name("away").rename(folder)
    _close(world, batch)
    assert world.collect(batch).status == "cancelled"


def test_costs_of_repeated_finishes_count_once(world: World) -> None:
    batch = world.batch(1)
    world.finish(batch, 1)
    world.finish(batch, 1)
    assert world.now(batch).cost == 10


def test_every_key_has_a_lifetime_and_forget_deletes_all(world: World) -> None:
    client = world.store.client
    batch = world.batch(6)
    world.feed(batch)
    world.begin(batch, 1)
    world.finish(batch, 2)
    world.finish(batch, 3, ok=False)
    world.assert_no_key_lives_forever()
    world.finish(batch, 1, 4, 5, 6)
    assert world.collect(batch).over
    world.assert_no_key_lives_forever()
    kinds = {key.decode().rpartition(":")[2] for key in client.scan_iter()}
    assert kinds == {"clock", batch.id, "batches", "done", "failed", "queues", "lane"}
    world.store.retry(world.now(batch), time.time() + 100)
    world.begin(batch, 3)
    world.assert_no_key_lives_forever()
    world.finish(batch, 3)
    world.collect(batch)
    world.store.forget(batch.id)
    assert {key.decode().rpartition(":")[2] for key in client.scan_iter()} <= {"clock", "queues"}


def test_a_batch_without_any_worker_expires_in_redis(world: World) -> None:
    batch = world.batch(1, deadline=50.0)
    life = world.store.client.ttl(world.store.keys.batch(batch.id))
    assert 90 * 86_400 < life <= 90 * 86_400 + 51


def test_the_record_as_json(world: World) -> None:
    batch = replace(world.batch(2), expected_input=10, expected_output=5, expected_cost=2_000_000_000)
    shown = json.loads(json.dumps(batch.shown()))
    assert shown["request_counts"] == {"total": 2, "completed": 0, "failed": 0}
    assert shown["estimate"] == {"input_tokens": 10, "output_tokens": 5, "cost_usd": 2.0, "seconds": 0.0}
