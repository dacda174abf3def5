"""One workflow's trouble stays its own: a provider's pause costs few denials, and never the whole worker."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from limits.client.connection import Server
from limits.snapshot import snapshot
from tests.simulator import Simulator
from tests.support.site import Site, job, wait_for
from tests.support.toml import provider

PAUSE, SLOTS = 8, 40


@pytest.fixture
def paused() -> Iterator[Simulator]:
    with Simulator(latency=0.05) as running:
        yield running


@pytest.fixture
def quick() -> Iterator[Simulator]:
    with Simulator(latency=0.05) as running:
        yield running


@pytest.mark.long
def test_a_pause_costs_few_denials_and_half_the_worker(tmp_path: Path, paused: Simulator, quick: Simulator) -> None:
    toml = provider(paused.base_url, "slow", models={"slow": ""}) + provider(
        quick.base_url, "quick", models={"quick": ""}
    )
    with Site(tmp_path, toml=toml) as site:
        worker = site.start_worker(concurrency=SLOTS)
        paused.configure(failures=[{"mode": "429", "retry_after": str(PAUSE), "times": 4}])
        site.submit([job(number, model="slow") for number in range(400)], workflow="large")
        wait_for(lambda: paused.stats()["statuses"].get("429"))
        ends = time.time() + PAUSE
        server = Server(site.client())

        def booked() -> int:
            return server.run(snapshot(site.keys)).open_reservations

        wait_for(lambda: not booked(), PAUSE - 4, what="what was in flight to be refused")
        most = 0
        while time.time() < ends - 0.5:
            most = max(most, booked())
            time.sleep(0.05)
        assert SLOTS // 8 < most <= SLOTS // 2 + 2, "who may go when the pause ends is there by then, and no more"
        denied = [line for line in worker.said().splitlines() if " retry: " in line]
        assert len(denied) < 2 * SLOTS, "one look of each slot when the 429 came; then nobody asks in vain"

        small = site.submit([job(number, model="quick") for number in range(50)], workflow="small")
        assert site.wait(small)["request_counts"]["completed"] == 50
        worker.kill()  # it has much left to do
