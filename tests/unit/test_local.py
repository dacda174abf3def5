"""Worker processes of `overnight run`: how often one that crashes is started again."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import local
from tasks.input import InputError
from tests.site import wait_for
from workers.settings import Settings


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[local.Group]:
    """One worker, which ends as soon as it starts."""
    monkeypatch.setattr(local, "command", lambda *_: [sys.executable, "-S", "-c", "raise SystemExit(7)"])
    with local.workers(Settings(data_dir=tmp_path), 1, 10) as group:
        yield group


def ended(group: local.Group) -> bool:
    return group.processes[0].poll() is not None


def test_a_worker_that_crashes_without_progress_is_given_up(crashing: local.Group) -> None:
    for _ in range(local.RESTARTS):
        wait_for(lambda: ended(crashing))
        crashing.check(3)
    wait_for(lambda: ended(crashing))
    with pytest.raises(InputError, match=r"keeps crashing \(exit status 7\): see .*worker-1.log"):
        crashing.check(3)


def test_a_worker_that_crashes_while_jobs_end_is_started_again(crashing: local.Group) -> None:
    for progress in range(local.RESTARTS * 2):
        wait_for(lambda: ended(crashing))
        crashing.check(progress)
    assert crashing.restarts == 1
