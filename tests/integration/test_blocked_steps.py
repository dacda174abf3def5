"""A worker whose agents block: its other jobs go on, and it stops on request."""

import signal
import time
from pathlib import Path

import pytest
from celery import Celery

from tests.simulator import Simulator
from tests.support.agents import line
from tests.support.site import Site, jobs, wait_for
from tests.support.toml import PRICES
from workers.pool.pool import REPORT_SECONDS
from workers.pool.threads import MAX_THREADS

pytestmark = pytest.mark.long


def test_blocking_steps_hold_up_no_other_jobs_nor_shutdown(tmp_path: Path) -> None:
    with Simulator(latency=0.05) as simulator:
        more = 'agents = ["tests.support.agents"]\nstop_grace_period = 1.0'
        site = Site(tmp_path, simulator, more=more, model=PRICES, provider="timeout = 5.0")
        # A name, which each new connection has to look up.
        site.file.write_text(site.file.read_text().replace("127.0.0.1", "localhost"))
        with site:
            worker = site.start_worker("-I", "tests.support.tasks", concurrency=200)
            with Celery("producer", broker=site.redis_url(), set_as_current=False) as client:
                client.send_task("tests.support.tasks.doze", [300], queue="workflow.plain", ignore_result=True)
            wait_for(lambda: "tests.support.tasks.doze" in worker.said(), what="a plain task that blocks, too")
            held = site.submit([line("blocked", number, seconds=300) for number in range(MAX_THREADS["steps"] + 30)])
            wait_for(lambda: site.client().zcard(site.keys.job_leases(held)) == MAX_THREADS["steps"] + 30)
            odd = site.submit([line("careless", 900)], workflow="odd")
            beside = site.submit(jobs(40), workflow="beside")
            status = site.wait(beside)
            assert status["request_counts"]["completed"] == 40
            times = [entry["at"] for entry in simulator.journal()]
            assert len(times) == 40
            assert max(times) - min(times) < 5
            billed = sum(entry["cost_nusd"] for entry in simulator.journal())
            assert status["cost_usd"] == pytest.approx(billed / 1e9), "a call counts that the provider never saw"

            worker.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            worker.process.wait(60)
            assert time.monotonic() - began < 1.0 + REPORT_SECONDS + 3.0
            assert site.client().zcard(site.keys.job_leases(held)) == 0, "their messages are back in the queue"

            # Their turn had not come: steps of 300 s were before them in all threads.
            site.run("cancel", held, status=None)
            site.start_worker()
            site.wait(odd)
            [careless], _ = site.results(odd)
            said = careless["response"]["body"]
            kinds = [words.partition(":")[0] for words in said.values()]
            assert kinds == ["SystemExit", "KeyboardInterrupt", "RuntimeError"]
