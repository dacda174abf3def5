"""Two beats and a real clock: the leader is killed at the minute, and the follower waits for the real lock."""

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.batches.store import open_store
from tasks.schedules.calendar import name_of
from tasks.schedules.runs import Schedules
from tests.support.site import Site, jobs, wait_for
from tests.support.toml import provider
from workers.config.settings import load

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


def test_a_run_whose_leader_dies_is_one_batch(tmp_path: Path) -> None:
    """Not two, not none; and it is there within half a minute of the kill."""
    due = (datetime.now(UTC) + timedelta(seconds=75)).replace(second=0, microsecond=0)
    toml = (
        f"{provider('http://127.0.0.1:9', key=None)}[workflows.nightly]\n"
        f'[schedules.nightly]\ncron = "{due.minute} {due.hour} * * *"\nworkflow = "nightly"\ninput = "in.jsonl"\n'
    )
    with Site(tmp_path, toml=toml) as site:
        site.input(jobs(3)).rename(tmp_path / "in.jsonl")
        leader = site.start_beat()
        wait_for(lambda: "this beat leads" in leader.said(), what="lead")
        site.environment["OVERNIGHT_HEARTBEAT"] = str(alive := tmp_path / "alive")
        follower = site.start_beat()
        store = open_store(load(site.file))
        while datetime.now(UTC) < due:
            time.sleep(0.02)
        killed = time.monotonic()
        os.killpg(leader.pid, signal.SIGKILL)
        wait_for(lambda: "this beat leads" in follower.said(), 35.0, what="the follower's lead")
        failover = time.monotonic() - killed
        [batch] = wait_for(store.batches, 30.0, what="the batch")
        assert failover <= 30.0
        schedule = load(site.file).schedules["nightly"]
        run = wait_for(
            lambda: Schedules(store).record("nightly", schedule).runs.get(name_of(due)), what="the run's record"
        )
        assert run.batch == batch.id
        rounds: set[int] = set()

        def went_round() -> bool:
            rounds.add(alive.stat().st_mtime_ns)
            return len(rounds) > 3

        wait_for(went_round, 60.0, what="rounds enough for a second batch to come, if it could")
        assert [one.id for one in store.batches()] == [batch.id]
        store.client.close()
