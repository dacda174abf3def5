"""What Flower shows of the batch lane: chunks in their order, jobs by lane, and what a batch waits for."""

from typing import Any

import pytest

from limits.snapshot import Snapshot
from tasks.batches.batch import Batch
from tasks.batches.chunk import Chunk
from tasks.monitoring.blockers import of_batch
from tasks.monitoring.flower.lane_rows import SHOWN, chunk_rows, counts
from tasks.monitoring.snapshot import SystemSnapshot

NOW = 1_764_000_000.0


def chunk(number: int = 0, **given: Any) -> Chunk:
    fields: dict[str, Any] = {"id": f"chunk_{number}", "batch": "batch_1", "number": number, "round": 0}
    fields |= {"provider": "acme", "model": "small", "key": 0, "url": "/v1/chat/completions", "lines": 20, "first": 1}
    return Chunk(**{**fields, "last": 20, "bytes": 1, "tokens": 1, "held": 1, "held_row": "", **given})


def batch(**given: Any) -> Batch:
    fields: dict[str, Any] = {"id": "batch_1", "workflow": "nightly", "name": "in.jsonl", "status": "in_progress"}
    fields |= {"total": 100, "bytes": 1, "storage": "", "created": NOW, "began": NOW - 600, "lanes": "batch,live"}
    return Batch(**{**fields, "fed": 100, "offloaded": 100, **given})


def system(one: Batch, *chunks: Chunk) -> SystemSnapshot:
    limits = Snapshot(int(NOW * 1e6), (), (), {}, (), 0)
    return SystemSnapshot(NOW, (one,), {}, limits, (), workers=1, chunks={one.id: chunks})


def test_open_chunks_come_first_and_not_all_are_shown() -> None:
    every = [chunk(number, state="closed" if number % 2 else "running") for number in range(2 * SHOWN)]
    rows = chunk_rows(system(batch(), *every))
    assert len(rows) == SHOWN
    assert {row.state for row in rows} == {"running"}
    assert [row.number for row in rows[:2]] == [2 * SHOWN - 1, 2 * SHOWN - 3]


def test_a_chunk_that_is_cancelled_says_so() -> None:
    (row,) = chunk_rows(system(batch(), chunk(state="running", cancelled_at=NOW, provider_batch="b", completed=3)))
    assert (row.state, row.badge, row.provider_batch, row.ended) == ("cancelling", "warning", "b", "3 answered")


def test_jobs_are_counted_by_lane() -> None:
    one = batch(completed=60, offloaded=40)
    found = [chunk(state="closed", completed=50, failed=1, returned=9, saved=2_500_000)]
    assert counts(one, found) == "40 in the batch lane · 51 by batch · 9 live · $0.0025 saved"
    one = batch(completed=60, offloaded=20, copies=30, copies_completed=5)
    assert counts(one, found) == "20 in the batch lane · 51 by batch · 4 live · 5 copies · $0.0025 saved"
    assert counts(batch(lanes=""), []) == ""


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([chunk(state="running"), chunk(1, state="running")], "2 provider batches at acme/small"),
        ([chunk(3, trouble="no room")], "chunk 4 (cut) at acme/small: no room"),
    ],
)
def test_a_batch_whose_jobs_are_all_in_the_batch_lane_waits_for_it(chunks: list[Chunk], words: str) -> None:
    found = of_batch(system(batch(), *chunks), batch(), workers=1)
    assert (found.words, found.stalled, found.kind) == (words, False, "batch_lane")
