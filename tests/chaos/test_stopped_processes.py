"""SIGSTOP of the processes beside the workers: a beat that leads, the keeper of the embedded server, and Flower."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from tasks.batches.store import open_store
from tests.chaos.books import balance
from tests.simulator import Simulator
from tests.support.fixtures import simulator_fixture
from tests.support.site import Site, jobs, wait_for
from tests.support.toml import PRICES, provider
from tests.support.watching import USER, ask, flower
from workers.config.settings import load

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

COUNT, CONCURRENCY = 1_500, 60

#: Seconds: longer than the 25 for which a beat that has stopped keeps the lead.
STOPPED = 35.0

simulator = simulator_fixture(
    "function", latency=0.5, models={"*": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}}
)


def process_of(site: Site, word: str) -> int:
    """The id of the site's process whose command line contains this word."""
    [found] = [each.pid for each in psutil.process_iter() if _is_of(site, each, word)]
    return found


def _is_of(site: Site, process: psutil.Process, word: str) -> bool:
    try:
        return word in process.cmdline() and str(site.folder) in " ".join([process.cwd(), *process.cmdline()])
    except psutil.Error:
        return False


@pytest.fixture
def scheduled() -> Iterator[Simulator]:
    """The provider of the scheduled run."""
    with Simulator() as running:
        yield running


def test_work_goes_on_and_each_run_is_started_once(tmp_path: Path, simulator: Simulator, scheduled: Simulator) -> None:
    due = (datetime.now(UTC) + timedelta(seconds=80)).replace(second=0, microsecond=0)
    other = provider(scheduled.base_url, "other", models={"tiny": ""})
    schedule = f'cron = "{due.minute} {due.hour} * * *"\nworkflow = "adhoc"\ninput = "in.jsonl"\n'
    tables = f"{other}[workflows.adhoc]\n[schedules.once]\n{schedule}"
    with Site(tmp_path, simulator, model=PRICES, tables=tables) as site:
        site.input(jobs(3, model="tiny")).rename(tmp_path / "in.jsonl")
        leader = site.start_beat()
        wait_for(lambda: "this beat leads" in leader.said(), what="lead")
        follower = site.start_beat()
        site.start_worker("-E", concurrency=CONCURRENCY)
        with flower(site) as address:
            batch = site.submit(jobs(COUNT))
            wait_for(lambda: len(simulator.journal()) > COUNT // 5, 30, what="a run in its middle")
            wait_for(lambda: datetime.now(UTC) > due - timedelta(seconds=5), 90, what="the minute")
            stopped = [leader.pid, process_of(site, "workers.embedded_keeper"), process_of(site, "flower")]
            for process in stopped:
                os.kill(process, signal.SIGSTOP)
            began = time.monotonic()
            wait_for(lambda: "this beat leads" in follower.said(), STOPPED, what="the other beat's lead")
            store = open_store(load(site.file))
            wait_for(lambda: len(store.batches()) == 2, 30, what="the scheduled batch")
            wait_for(lambda: time.monotonic() > began + STOPPED, STOPPED + 1)
            for process in stopped:
                os.kill(process, signal.SIGCONT)
            wait_for(lambda: "another beat leads" in leader.said(), 60, what="the first beat, which stands by")
            [run] = [each.id for each in store.batches() if each.id != batch]
            store.client.close()
            assert site.wait(run)["request_counts"]["completed"] == 3
            assert scheduled.stats()["requests"] == 3
            status, page, _ = ask(f"{address}/workflows", user=USER)
            assert (status, batch in page, run in page) == (200, True, True)
        balance(site, simulator, batch, COUNT)
