"""A batch of the HTTP server survives kill -9 of workers, of Redis and of the server that took it."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.api import CLIENTS, ended, served, submit, upload
from tests.support.site import Site, jobs, wait_for
from tests.support.toml import PRICES

LINES = 400

#: Calls that one of the workers may have in flight.
PLACES = 20


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_batch_survives_kills_of_a_worker_of_redis_and_of_its_server(tmp_path: Path) -> None:
    with (
        Simulator({"latency": 0.5}) as simulator,
        Site(tmp_path, simulator, more="visibility_timeout = 15.0", model=PRICES, tables=CLIENTS) as site,
    ):
        workers = site.start_workers(2, concurrency=PLACES)
        with served(site) as one, one.sdk() as sdk:
            batch = submit(sdk, upload(sdk, jobs(LINES))).id
            wait_for(lambda: simulator.stats()["jobs_answered"] >= LINES // 8, what="the first answers")
            workers[0].kill()
            one.process.kill()
        wait_for(lambda: simulator.stats()["jobs_answered"] >= LINES // 4, what="more answers")
        os.kill(site.redis_pid(), signal.SIGKILL)
        with served(site) as two, two.sdk() as sdk:
            done = ended(sdk, batch, 120.0)
            assert done.request_counts is not None
            assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("completed", LINES, 0)
            lines = [json.loads(line) for line in sdk.files.content(str(done.output_file_id)).text.splitlines()]
        assert Counter(line["custom_id"] for line in lines) == Counter(line["custom_id"] for line in jobs(LINES))
        assert len(simulator.journal()) <= LINES + 2 * PLACES, "paid twice: what was in flight at a kill"
