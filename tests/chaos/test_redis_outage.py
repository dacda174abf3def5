"""Redis stands still for ten seconds in the middle of a run: nothing is called, nothing is lost, the books balance."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.site import Site, jobs, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

MODEL = "rpm = 2_400\nburst = 1\ninput_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"
WORKFLOW = '[workflows.nightly]\nbudget_usd = 5.0\nbudget_window = "total"\n'
COUNT = 600


def test_nothing_is_called_while_the_server_is_away(tmp_path: Path) -> None:
    with Simulator(latency=0.2) as provider, Site(tmp_path, provider, model=MODEL, tables=WORKFLOW) as site:
        site.start_workers(2)
        batch = site.submit(jobs(COUNT))
        wait_for(lambda: len(provider.journal()) > COUNT // 4, 30, 0.02, what="a run in its middle")
        server = site.redis_pid()
        os.kill(server, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            time.sleep(10.0)  # the length of the outage
        finally:
            resumed = time.monotonic()
            os.kill(server, signal.SIGCONT)
        status = site.wait(batch, 120)
        lines, errors = site.results(batch)
        journal = provider.journal()
        limits = json.loads(site.run("limits", "--json").stdout)
        costs = json.loads(site.run("costs", "--json").stdout)["total"]

    # What had been admitted just before may still leave.
    assert not [entry["at"] - stopped for entry in journal if stopped + 0.3 < entry["at"] < resumed]
    assert 0 < sum(entry["at"] < stopped for entry in journal) < COUNT
    assert status["request_counts"] == {"total": COUNT, "completed": COUNT, "failed": 0}
    assert errors == []
    assert len({line["custom_id"] for line in lines}) == len(lines) == COUNT
    assert len(journal) == COUNT, "nothing was paid for twice"

    billed = sum(entry["cost_nusd"] for entry in journal)
    (budget,) = limits["budgets"]
    assert round(budget["spent_usd"] * 1e9) == round(costs["total_usd"] * 1e9) == billed
    assert budget["held_usd"] == 0
    assert limits["reservations"] == 0
    assert sum(round(line["overnight"]["cost_usd"] * 1e9) for line in lines) == billed
