"""Tables on a narrow terminal, or on none, are not cut off."""

import pytest

from tasks.batches.batch import Batch
from tasks.console import batches_view, dead_view

BATCH = Batch("nightly-a-0123456789ab", "a-workflow-with-a-long-name", "in.jsonl", "in_progress", 1_000, 1, "/x", 1.0)


def test_a_batch_is_whole_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    batches_view.table([BATCH])
    (_, row) = capsys.readouterr().err.splitlines()
    assert row.split()[:4] == [BATCH.id, BATCH.workflow, "in_progress", "0/1,000"]


def test_a_dead_letter_is_whole_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    reason = "its body is no JSON: unexpected character"
    dead_view.dead([{"id": "7", "queue": "workflow.a", "at": "2026-01-01T00:00:00Z", "bytes": 12, "reason": reason}])
    (_, row) = capsys.readouterr().err.splitlines()
    assert reason in row
