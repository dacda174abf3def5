"""How often `overnight run` restarts a worker that crashes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.batches.input import InputError
from tasks.console import local_workers
from tests.support.site import wait_for
from workers.config.settings import Settings


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[local_workers.Group]:
    """One worker, which ends as soon as it starts."""
    monkeypatch.setattr(local_workers, "command", lambda *_: [sys.executable, "-S", "-c", "raise SystemExit(7)"])
    with local_workers.workers(Settings(data_dir=tmp_path), 1, 10) as group:
        yield group


def ended(group: local_workers.Group) -> bool:
    return group.processes[0].poll() is not None


def test_a_worker_crashing_without_progress_is_given_up(crashing: local_workers.Group) -> None:
    for _ in range(local_workers.RESTARTS):
        wait_for(lambda: ended(crashing))
        crashing.check(3)
    wait_for(lambda: ended(crashing))
    with pytest.raises(InputError, match=r"keeps crashing \(exit status 7\): see .*worker-1.log"):
        crashing.check(3)


def test_a_worker_crashing_with_progress_is_restarted(crashing: local_workers.Group) -> None:
    for progress in range(local_workers.RESTARTS * 2):
        wait_for(lambda: ended(crashing))
        crashing.check(progress)
    assert crashing.restarts == 1
