"""Workers are killed again and again while a batch is in the batch lane."""

import json
import random
from contextlib import suppress
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.site import Site, jobs, wait_for

LANES = """
[workflows.nightly]
lanes = ["batch", "live"]
batch_min_time = "1s"
deadline = "20m"
budget_usd = 5
"""
#: A line has about 10 tokens, so a chunk has some 20 lines.
MODEL = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0\nbatch_enqueued_tokens = 400"
LINES = 120


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_killed_workers_create_nothing_twice_and_pay_nothing_twice(tmp_path: Path) -> None:
    chance = random.Random(7)
    faults = [{"mode": "lost_create"}, {"mode": "expires"}, {"mode": "missing"}, {"mode": "lost_create"}]
    provider = 'batch_poll = "0.5s"\nbatch_cancel_time = "10s"'
    with (
        Simulator(batch_delay=[0.5, 3.0], batch_faults=faults) as simulator,
        Site(tmp_path, simulator, model=MODEL, provider=provider, tables=LANES, more="visibility_timeout = 3") as site,
    ):
        batch = site.submit(jobs(LINES))
        for _ in range(8):
            worker = site.start_worker()
            wait_for(lambda: site.status(batch)["status"], 10)
            seen = len(simulator.batches())
            more = chance.random() * 2
            with suppress(AssertionError):
                wait_for(lambda seen=seen: len(simulator.batches()) > seen, more + 0.5)
            worker.kill()
            if site.status(batch)["status"] == "completed":
                break
        site.start_worker()
        status = site.wait(batch, 400.0)
        assert status["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
        created = [each["metadata"]["overnight_chunk"] for each in simulator.batches()]
        assert len(created) == len(set(created)), "no chunk has two provider batches"
        wait_for(lambda: all(each["state"] == "closed" for each in site.status(batch)["chunks"]), 60)
        stats = simulator.stats()
        assert stats["jobs_answered"] == LINES
        booked = round(json.loads(site.run("costs", "--json").stdout)["total"]["total_usd"] * 1e9)
        assert booked >= stats["cost_nusd"], "whatever was billed is booked"
        lines, errors = site.results(batch)
        assert (len({line["custom_id"] for line in lines}), errors) == (LINES, [])
        in_lane = sum(line["overnight"]["lane"] == "batch" for line in lines)
        assert in_lane > LINES / 3
        # A live call that a kill cut off is presumed spent and made again; the batch lane repeats nothing.
        batch_answers = [entry["job"] for entry in simulator.journal() if entry["mode"] == "batch"]
        assert len(batch_answers) == len(set(batch_answers))
