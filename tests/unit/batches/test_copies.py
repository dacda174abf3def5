"""Lines that repeat another one are asked once, and get its answer."""

from typing import Any

import pytest

from limits.client import compact_json
from tasks.batches import collect as collecting
from tasks.batches.close import close
from tasks.batches.copies import Answered, copies_of
from tasks.batches.duplicates import Duplicates, digest_of
from tasks.batches.feed import feed
from tasks.batches.report import job_report
from tasks.jobs.job import Line, decode, encode, result_line
from tasks.jobs.storage import StorageError
from tasks.jobs.store import Outcome
from tests.simulator import Simulator
from tests.support.lane import Lane
from tests.unit.batches.conftest import World


def _line(body: str, url: str = "/v1/chat/completions") -> Line:
    return Line("job-1", url, decode(body.encode()))


SAME = '{"model": "small", "messages": [{"role": "user", "content": "é"}], "temperature": 1.0}'


@pytest.mark.parametrize(
    "other",
    [
        '{"temperature": 1.0, "messages": [{"content": "é", "role": "user"}], "model": "small"}',
        '{"model": "acme/small", "messages": [{"role": "user", "content": "\\u00e9"}], "temperature": 1.0}',
    ],
)
def test_lines_with_the_same_meaning_are_equal(other: str) -> None:
    assert digest_of(_line(other), ["acme/small"]) == digest_of(_line(SAME), ["acme/small"])


@pytest.mark.parametrize(
    "other",
    [
        SAME.replace("1.0", "1"),
        SAME.replace("1.0", "0.9"),
        SAME.replace("é", "e\u0301"),
        SAME.replace("é", "é "),
        SAME.replace("}]", '}, {"role": "user", "content": "é"}]'),
        SAME.replace('"temperature": 1.0', '"temperature": 1.0, "seed": null'),
    ],
)
def test_lines_with_any_other_value_differ(other: str) -> None:
    assert digest_of(_line(other), ["acme/small"]) != digest_of(_line(SAME), ["acme/small"])


def test_lines_of_another_model_or_url_differ() -> None:
    one = digest_of(_line(SAME), ["acme/small"])
    assert digest_of(_line(SAME), ["acme/large"]) != one
    assert digest_of(_line(SAME), ["acme/small", "other/small"]) != one
    assert digest_of(_line(SAME, "/v1/responses"), ["acme/small"]) != one


def test_lines_of_agents_and_deep_bodies_are_never_copies() -> None:
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    with Duplicates() as duplicates:
        for number in range(2):
            assert not duplicates.add(number, Line(f"job-{number}", "/agents/triage", {"text": "a"}), [])
            assert not duplicates.add(number, Line(f"job-{number}", "/v1/chat/completions", {"x": deep}), ["m"])
        assert duplicates.count == 0


def test_only_originals_are_handed_out(world: World) -> None:
    batch = world.batch(10, distinct=4)
    assert world.feed(batch) == [1, 2, 3, 4]
    now = world.now(batch)
    assert (now.to_feed, now.out, now.waiting_copies) == (0, 4, 6)
    world.messages = 4
    assert world.feed(batch) == []
    assert not world.now(batch).short_since


def test_copies_end_with_their_original(world: World) -> None:
    batch = world.batch(10, distinct=4)
    world.feed(batch)
    world.finish(batch, 2)
    world.finish(batch, 3, ok=False)
    now = world.collect(batch)
    assert (now.status, now.completed, now.failed, now.out, now.to_feed) == ("in_progress", 3, 2, 2, 0)
    assert [line["custom_id"] for line in world.output(batch)] == ["job-2", "job-6", "job-10"]
    original, copy, _ = world.output(batch)
    assert copy["response"] == original["response"]
    unpaid = {"attempts": 0, "cost_usd": 0, "seconds": 0, "copy_of": "job-2"}
    assert copy["overnight"] == {**original["overnight"], **unpaid}
    assert copy["id"] != original["id"]
    failed, copy = world.errors(batch)
    assert copy["error"] == failed["error"]
    assert copy["overnight"]["copy_of"] == "job-3"
    world.finish(batch, 1, 4)
    now = world.collect(batch)
    assert (now.status, now.completed, now.failed, now.cost) == ("completed", 8, 2, 40)


@pytest.mark.parametrize("text", ["1" * 400, "0.12345678901234567890", '",\\"overnight\\":{,\\"response\\":"'])
def test_an_answer_is_copied_byte_for_byte(world: World, text: str) -> None:
    batch = world.batch(2, distinct=1)
    answer = f'"response":{{"n":{text}}},"error":null'.encode()
    raw = b'{"id":"a","custom_id":"x,\\"response\\":",%s,"overnight":{"attempts":1,"answers":[{}]}}' % answer
    line = Answered.of(batch, raw).line(2, 'an "id"')
    assert answer in line
    found = compact_json.loads(line)
    assert (found["custom_id"], found["overnight"]["copy_of"]) == ('an "id"', 'x,"response":')
    assert "answers" not in found["overnight"]
    assert list(found) == ["id", "custom_id", "response", "error", "overnight"]


def test_retrying_a_failed_original_retries_its_copies(world: World) -> None:
    batch = world.batch(10, distinct=4)
    world.feed(batch)
    world.finish(batch, 1, 2, 4)
    world.finish(batch, 3, ok=False)
    assert world.collect(batch).over
    assert world.store.retry(world.now(batch), world.now(batch).deadline) == 2
    assert world.feed(batch) == [3]
    now = world.now(batch)
    assert (now.to_feed, now.out, now.waiting_copies) == (0, 1, 1)
    world.finish(batch, 3)
    now = world.collect(batch)
    assert (now.status, now.completed, now.failed, now.waiting_copies) == ("completed", 10, 0, 0)
    assert sorted(line["custom_id"] for line in world.output(batch)) == sorted(f"job-{n}" for n in range(1, 11))


def test_a_cancelled_originals_copies_are_cancelled(world: World) -> None:
    batch = world.batch(10, distinct=4)
    world.feed(batch)
    world.finish(batch, 1)
    assert world.begin(batch, 2) == "run"
    world.collect(batch)
    world.store.stop(world.now(batch), "cancelled")
    close(world.store, world.now(batch))
    world.collect(batch)
    close(world.store, world.now(batch))
    assert world.now(batch).left == 3  # a call in flight, and its copies
    world.finish(batch, 2)
    now = world.collect(batch)
    assert (now.status, now.completed, now.failed) == ("cancelled", 6, 4)
    assert {line["error"]["code"] for line in world.errors(batch)} == {"batch_cancelled"}


def test_a_batch_that_is_one_line_a_thousand_times(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "STEP_BYTES", 10_000)
    batch = world.batch(1_000, distinct=1)
    assert world.feed(batch) == [1]
    world.finish(batch, 1, pad=200)
    while not (now := world.collect(batch)).over:
        assert now.out == 0
    assert [line["custom_id"] for line in world.output(batch)] == [f"job-{n}" for n in range(1, 1_001)]
    assert now.parts > 20
    assert now.completed == 1_000


def test_the_batch_lane_carries_originals_only(world: World, simulator: Simulator) -> None:
    simulator.configure(batch_faults=[{"mode": "expires"}])
    lane = Lane(world, simulator, 20, distinct=8)
    lane.run()
    assert [chunk.lines for chunk in lane.chunks] == [8]
    assert len(lane.live_lines()) == 4
    world.finish(lane.batch, *lane.live_lines())
    now = world.collect(lane.batch)
    assert (now.status, now.completed, now.to_feed) == ("completed", 20, 0)
    assert sorted(line["custom_id"] for line in world.output(lane.batch)) == sorted(f"job-{n}" for n in range(1, 21))
    copies = [line["overnight"] for line in world.output(lane.batch) if "copy_of" in line["overnight"]]
    assert [report["cost_usd"] for report in copies] == [0] * 12


def test_missing_messages_of_copies_are_not_missed(world: World) -> None:
    batch = world.batch(10, distinct=4)
    world.feed(batch)
    world.messages, world.queue = 0, []
    feed(world.store, world.now(batch), world.publish, lambda _: 0, 0.0)
    feed(world.store, world.now(batch), world.publish, lambda _: 0, 0.0)
    assert [line for _, line, _ in world.queue] == [1, 2, 3, 4]


def test_a_copys_report_is_that_of_its_original(world: World) -> None:
    batch = world.batch(10, distinct=4)
    world.feed(batch)
    world.begin(batch, 2)
    report = job_report(world.store, world.now(batch), "job-6")
    assert report is not None
    assert (report.number, report.state) == (6, "running")
    world.finish(batch, 2)
    world.collect(batch)
    report = job_report(world.store, world.now(batch), "job-6")
    assert report is not None
    assert (report.state, report.shown()["overnight"]["copy_of"]) == ("completed", "job-2")


def test_a_file_of_copies_that_is_damaged_is_reported(world: World) -> None:
    batch = world.batch(10, distinct=4)
    world.path(batch, "copies.sqlite").write_bytes(b"no database, but long enough to be read as one" * 100)
    with pytest.raises(StorageError, match=r"copies\.sqlite cannot be read, put it back as it was"):
        world.feed(batch)


def test_checks_count_copies_too(world: World) -> None:
    batch = world.batch(10, distinct=4)
    world.feed(batch)
    lines = [answer(1, "valid"), answer(2, "refused"), answer(3, "truncated", cut_off_by="default")]
    world.store.finish_many([(world.job(batch, n), Outcome(True, line)) for n, line in enumerate(lines, 1)])
    world.finish(batch, 4)
    now = world.collect(batch)
    assert (now.status, now.completed) == ("completed", 10)
    assert now.check_counts == {"refused": 2, "truncated": 1}, "of these originals 2 and 3 have 2 and 1 copies"
    assert (now.cut_off, now.cut_off_default) == (1, 1)


def answer(line: int, result: str, **report: str) -> bytes:
    response = {"status_code": 200, "body": {}}
    shown = {"checks": {"result": result}, **report}
    return encode(result_line(f"r-{line}", f"job-{line}", response=response, error=None, report=shown))


def test_the_file_of_copies_stays_open_without_its_name(world: World) -> None:
    batch = world.batch(10, distinct=4)
    found = copies_of(batch)
    assert found is not None
    assert found.of(1, 0, 9) == [(5, "job-5"), (9, "job-9")]
    assert found.of(1, 1, 9) == [(9, "job-9")]
    assert (found.count(3), found.original_of(7), found.original_of(3)) == (1, 3, None)
    world.path(batch, "copies.sqlite").unlink()
    assert found.count(4) == 1
