"""`overnight pause` and `resume` with workers under load: in effect within seconds, and nothing is lost."""

import json
import time
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.site import Site, jobs, wait_for


def answered(simulator: Simulator) -> int:
    return int(simulator.stats()["requests"])


def stands_still(simulator: Simulator) -> bool:
    """Whether no call has come for two seconds."""
    before = answered(simulator)
    time.sleep(2.0)  # the length of the look
    return answered(simulator) == before


@pytest.mark.long
@pytest.mark.timeout(180)
def test_three_workers_pause_a_batch_within_five_seconds(tmp_path: Path, simulator: Simulator) -> None:
    simulator.clear()
    simulator.configure(latency=0.05)
    with Site(tmp_path, simulator, model="rpm = 6_000") as site:
        for _ in range(3):
            site.start_worker(concurrency=20)
        paused, other = site.submit(jobs(2_000)), site.submit(jobs(3_000), workflow="beside")
        wait_for(lambda: json.loads(site.run("status", paused, "--json").stdout)["request_counts"]["completed"] > 20)
        assert "is paused within a second" in site.run("pause", paused).stderr
        time.sleep(5.0)  # the promise
        before = json.loads(site.run("status", paused, "--json").stdout)
        assert before["waits_for"].startswith(f"you: its batch is paused; to go on: overnight resume {paused}")
        time.sleep(5.0)  # the length of the look
        after = json.loads(site.run("status", paused, "--json").stdout)
        assert after["request_counts"] == before["request_counts"]
        assert after["in_flight"] == 0
        assert json.loads(site.run("status", other, "--json").stdout)["request_counts"]["completed"] > 0
        assert f"batch {paused} is paused" in site.run("limits").stderr

        site.run("resume", paused)
        wait_for(
            lambda: (
                json.loads(site.run("status", paused, "--json").stdout)["request_counts"]["completed"]
                > after["request_counts"]["completed"]
            ),
            5.0,
            what="a resumed batch goes on",
        )
        site.run("cancel", other)
        assert site.wait(paused, 120)["request_counts"]["completed"] == 2_000
        site.wait(other)
        numbers = [entry["job"] for entry in simulator.journal()]
        lines, _ = site.results(paused)
        assert len({line["custom_id"] for line in lines}) == 2_000
        assert len(numbers) <= 2_000 + 3_000


@pytest.mark.long
@pytest.mark.timeout(180)
def test_three_workers_pause_a_workflow_within_five_seconds(tmp_path: Path, simulator: Simulator) -> None:
    simulator.clear()
    simulator.configure(latency=0.05)
    with Site(tmp_path, simulator, model="rpm = 6_000") as site:
        for _ in range(3):
            site.start_worker(concurrency=20)
        batch = site.submit(jobs(2_000))
        wait_for(lambda: answered(simulator) > 20)
        site.run("pause", "--workflow", "nightly")
        wait_for(lambda: stands_still(simulator), 8.0, what="no call of a paused workflow")
        told = json.loads(site.run("status", batch, "--json").stdout)
        assert told["waits_for"].startswith(
            "you: its workflow is paused; to go on: overnight resume --workflow nightly"
        )
        worker = site.start_worker(concurrency=20)  # a new worker starts nothing of it, either
        assert stands_still(simulator)
        worker.kill()
        before = answered(simulator)
        site.run("resume", "--workflow", "nightly")
        wait_for(lambda: answered(simulator) > before, 5.0, what="a resumed workflow goes on")
        assert site.wait(batch, 120)["request_counts"]["completed"] == 2_000
        assert answered(simulator) == 2_000


def test_what_cannot_be_paused_is_refused(tmp_path: Path, simulator: Simulator) -> None:
    with Site(tmp_path, simulator) as site:
        batch = site.submit(jobs(1))
        assert "name a batch, or a workflow" in site.run("pause", status=2).stderr
        assert "there is no batch" in site.run("pause", "batch_unknown", status=2).stderr
        assert f"{batch} is not paused" in site.run("resume", batch, status=2).stderr
        site.run("pause", batch)
        assert f"to go on: overnight resume {batch}" in site.run("pause", batch, status=2).stderr
