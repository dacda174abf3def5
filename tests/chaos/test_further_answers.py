"""Workers are killed while lines ask for further answers: no answer that was kept is paid for again."""

import os
import random
import signal
from collections import Counter
from typing import Any

import pytest

from tests.support.asking import asking
from tests.support.fixtures import simulator_fixture, site_fixture
from tests.support.site import Site, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

LINES, KILLS, CONCURRENCY = 600, 4, 20
LARGE = {"input_usd_per_mtok": 10.0, "output_usd_per_mtok": 20.0}

simulator = simulator_fixture(
    flaws=[{"kind": "invalid", "part": 1.0, "model": "small"}], models={"*": {}, "large": LARGE}, latency=[0.1, 0.6]
)

site = site_fixture(
    more="visibility_timeout = 5.0",
    model="input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0",
    tables="""
[providers.acme.models.large]
input_usd_per_mtok = 10.0
output_usd_per_mtok = 20.0
[workflows.nightly]
on_invalid = "retry"
escalate = "large"
""",
    workers=2,
    concurrency=CONCURRENCY,
)


def test_kills_repeat_only_calls_in_flight(site: Site, simulator: Any) -> None:
    batch = site.submit([asking(number) for number in range(1, LINES + 1)])
    for kill in range(1, KILLS + 1):
        wait_for(lambda kill=kill: simulator.stats()["requests"] > kill * 200, 60.0, what="calls")
        victim = random.Random(kill).choice([worker for worker in site.workers if worker.process.poll() is None])
        os.killpg(victim.pid, signal.SIGKILL)
        victim.process.wait()
        site.start_worker(concurrency=CONCURRENCY)
    status = site.wait(batch, 150)
    output, errors = site.results(batch)
    assert (len(output), errors) == (LINES, [])
    assert {line["overnight"]["checks"]["result"] for line in output} == {"valid"}
    assert status["again"]["fixed"] == LINES

    calls = Counter((entry["job"], entry["model"]) for entry in simulator.journal())
    assert len(calls) == 2 * LINES
    assert sum(count - 1 for count in calls.values()) <= KILLS * CONCURRENCY
    told = sum(line["overnight"]["cost_usd"] for line in output)
    assert status["cost_usd"] == pytest.approx(told)
    repeated = sum(sorted((entry["cost_nusd"] for entry in simulator.journal()), reverse=True)[: KILLS * CONCURRENCY])
    assert told <= simulator.stats()["cost_nusd"] / 1e9 <= told + repeated / 1e9
