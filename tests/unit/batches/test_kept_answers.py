"""Answers that lines keep while they ask for further ones: across deliveries, in the batch lane, at a batch's end."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from limits.encoding import settlement_json
from limits.reservation import Settlement
from tasks.answers.again import Again
from tasks.batches.close import close
from tasks.jobs import job as lines
from tasks.jobs import kept
from tasks.jobs import store as jobs
from tasks.jobs.kept import Kept
from tasks.jobs.state import JobState
from tasks.jobs.store import Outcome
from tests.simulator import Simulator
from tests.support.lane import Lane
from tests.unit.batches.conftest import World


@pytest.fixture
def truncated(simulator: Simulator) -> Iterator[Simulator]:
    simulator.configure(flaws=[{"kind": "truncated", "part": 1.0}])
    yield simulator
    simulator.configure(flaws=[])


def outcome(check: str, cost: int, *, ok: bool = True, name: str = "one") -> Outcome:
    """How a job would end with an answer of this check, or with an error."""
    report = {"provider": "p", "model": "m", "lane": "live", "cost_usd": 0.0, "checks": {"result": check}}
    error = None if ok else {"code": "budget_exceeded", "message": "spent"}
    line = lines.result_line("id", name, response={"body": {"answer": check}}, error=error, report=report)
    settlement = settlement_json("none", "me", Settlement(0, ()))
    return Outcome(ok, lines.encode(line), cost, settlement=settlement, check=check)  # type: ignore[arg-type]


def first(check: str = "invalid") -> Kept:
    return kept.keep(None, outcome(check, 100), Again("large", 200), 0, JobState(calls=1))


@pytest.mark.parametrize(
    ("before", "after", "best"),
    [
        ("invalid", "valid", "valid"),
        ("invalid", "truncated", "truncated"),
        ("truncated", "invalid", "truncated"),
        ("refused", "invalid", "invalid"),
        ("invalid", "empty", "invalid"),
        ("invalid", "unchecked", "unchecked"),
    ],
)
def test_the_better_answer_is_the_result(before: str, after: str, best: str) -> None:
    found = first(before).best(outcome(after, 250))
    line = json.loads(found.line)
    assert (found.check, line["response"]["body"]["answer"]) == (best, best)
    assert (found.cost, found.again_cost) == (250, 150)
    assert [each["cost_usd"] for each in line["overnight"]["answers"]] == [100 / 1e9, 150 / 1e9]


def test_of_equal_answers_the_later_one_is_kept() -> None:
    second = kept.keep(first(), outcome("invalid", 250, name="two"), Again(), 0, JobState())
    assert json.loads(second.line)["custom_id"] == "two"
    assert (second.first_cost, second.cost) == (100, 250)


def test_what_is_kept_is_read_as_it_was_written() -> None:
    assert kept.decode(first().encode(), 0) == first()
    assert kept.decode(first().encode(), 1) is None  # of an earlier round


def test_an_error_in_place_of_a_further_answer_is_told() -> None:
    found = first().best(outcome("", 100, ok=False))
    assert (found.ok, found.check) == (True, "invalid")
    answers = json.loads(found.line)["overnight"]["answers"]
    assert answers[1]["error"] == {"code": "budget_exceeded", "message": "spent"}


def test_only_the_delivery_that_holds_the_lease_keeps_an_answer(world: World) -> None:
    batch = world.batch(2)
    world.feed(batch)
    job = world.job(batch, 1)
    keys, run = world.store.keys, world.store.server.run
    assert run(jobs.begin(keys, job, "me")).kept == b""
    raw = first().encode()
    assert not run(jobs.keep_answer(keys, job, "another", raw, outcome("invalid", 100), calls=1))
    assert run(jobs.keep_answer(keys, job, "me", raw, outcome("invalid", 100), calls=1))
    begun = run(jobs.begin(keys, job, "me"))
    assert (begun.verdict, begun.kept) == ("run", raw)
    run(jobs.finish(keys, job, first().best(outcome("valid", 250))))
    record = world.now(batch)
    assert record.check_counts == {"again": 1, "fixed": 1}
    assert record.again_cost == 150
    assert not world.store.client.exists(keys.kept(batch.id))
    assert not run(jobs.keep_answer(keys, job, "me", raw, outcome("invalid", 100)))  # it has ended
    gone = replace(job, batch="batch_gone")
    assert not run(jobs.keep_answer(keys, gone, "me", raw, outcome("invalid", 100)))


def test_an_answer_of_the_batch_lane_is_kept_and_its_line_goes_live(world: World, truncated: Simulator) -> None:
    lane = Lane(world, truncated, workflow={"on_invalid": "retry"})
    lane.run()
    assert len(lane.live_lines()) == 20
    assert not lane.results()
    lane.assert_books()
    begun = world.store.server.run(jobs.begin(world.store.keys, world.job(lane.batch, 3), "me"))
    found = kept.decode(begun.kept, 0)
    assert found is not None
    assert (found.check, found.again) == ("truncated", Again("", 100))  # the default of the workflow is 50
    assert found.answers[0]["lane"] == "batch"
    assert found.state["calls"] == found.state["counted_calls"] == 1
    assert found.cost == found.state["counted_cost"] == found.first_cost > 0


def test_a_stopped_batch_ends_its_lines_with_what_they_keep(world: World, truncated: Simulator) -> None:
    lane = Lane(world, truncated, workflow={"on_invalid": "retry"})
    lane.run()
    world.store.stop(lane.batch, "cancelled")
    close(world.store, lane.batch)
    batch = lane.batch
    assert (batch.completed, batch.failed) == (20, 0)
    assert (batch.check_counts, batch.cut_off) == ({"truncated": 20, "again": 20}, 20)
    assert batch.cost == truncated.stats()["cost_nusd"]


def test_a_failed_answer_is_counted_until_its_line_is_retried(world: World, truncated: Simulator) -> None:
    lane = Lane(world, truncated, workflow={"on_invalid": "fail"})
    lane.run()
    assert (lane.batch.failed, lane.batch.shown()["checks"], lane.batch.cut_off) == (20, {"truncated": 20}, 0)
    ended = world.collect(lane.batch)
    assert ended.status == "completed"
    assert json.loads(json.dumps(world.errors(ended)))[0]["error"]["code"] == "invalid_answer"
    assert world.store.retry(ended, ended.deadline + 3_600) == 20
    assert lane.batch.shown()["checks"] == {}


def test_a_workflow_own_check_gets_the_answers_of_the_batch_lane(world: World, simulator: Simulator) -> None:
    lane = Lane(world, simulator, lines=3, workflow={"check": "tests.support.own_checks:strict"})
    lane.run()
    assert lane.batch.shown()["checks"] == {"invalid": 3}
    assert len(lane.results()) == 3


def test_a_line_that_ends_without_a_call_keeps_its_answer_and_its_cost() -> None:
    """The message may be older than the answer, and know nothing of its cost."""
    revoked = outcome("", 0, ok=False)
    found = kept.instead_of(revoked, first().encode(), 0)
    assert (found.ok, found.cost, found.counted, found.again_cost) == (True, 100, 100, 0)
    assert kept.instead_of(revoked, first().encode(), 1) is revoked
    assert kept.instead_of(revoked, None, 0) is revoked
