"""The batch lane from `submit` to the result files: real workers, and a provider with a Batch API on loopback."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Simulator
from tests.support.asking import asking
from tests.support.site import Site, jobs, lanes_of, wait_for

PRICES = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"
PROVIDER = 'batch_poll = "0.3s"\nbatch_cancel_time = "2s"'
WORKFLOW = '[workflows.nightly]\nlanes = ["batch", "live"]\nbatch_min_time = "1s"\ndeadline = "10m"\n'


def site(folder: Path, simulator: Simulator, *, model: str = "", workflow: str = "", provider: str = "") -> Site:
    return Site(
        folder,
        simulator,
        model=f"{PRICES}\n{model}",
        provider=f"{PROVIDER}\n{provider}",
        tables=f"{WORKFLOW}{workflow}",
    )


def assert_paid_once(simulator: Simulator, status: dict[str, Any]) -> None:
    """Every job was answered once, by one lane, and the books are the provider's."""
    stats = simulator.stats()
    assert stats["billed_again"] == 0
    assert round(status["cost_usd"] * 1e9) == stats["cost_nusd"]


def test_a_batch_goes_through_the_batch_lane_at_half_the_price(tmp_path: Path) -> None:
    with Simulator() as simulator, site(tmp_path, simulator) as one:
        one.start_worker()
        batch = one.submit(jobs(50))
        status = one.wait(batch)
        assert status["request_counts"] == {"total": 50, "completed": 50, "failed": 0}
        lines, errors = one.results(batch)
        assert lanes_of(lines) == {"batch": 50}
        assert errors == []
        assert [each["status"] for each in simulator.batches()] == ["completed"]
        assert_paid_once(simulator, status)


def test_every_command_shows_the_lanes(tmp_path: Path) -> None:
    with Simulator(batch_delay=600) as simulator, site(tmp_path, simulator) as one:
        path = str(one.input(jobs(20)))
        live = one.run("estimate", path, "-w", "nightly", "--lanes", "live", "--json")
        assert json.loads(live.stdout)["lanes"] is None
        found = json.loads(one.run("estimate", path, "-w", "nightly", "--json").stdout)
        assert (found["lanes"]["batch_lines"], found["lanes"]["reason"]) == (20, None)
        assert found["lanes"]["cost_usd"] == pytest.approx(found["cost_usd"] / 2)
        assert "20 by batch of 20 jobs" in one.run("estimate", path, "-w", "nightly").stderr
        refused = one.run("submit", path, "-w", "nightly", "--lanes", "batch", status=2)
        assert 'must contain "live"' in refused.stderr
        one.start_worker()
        done = one.run("submit", path, "-w", "nightly")
        assert "lanes batch, live: about $" in done.stderr
        batch = done.stdout.strip()
        wait_for(lambda: [each["state"] for each in one.status(batch)["chunks"]] == ["running"])
        status = one.status(batch)
        assert status["lanes"] == {
            "allowed": ["batch", "live"],
            "batch": {"in_lane": 20, "completed": 0, "failed": 0, "went_live": 0, "cost_usd": 0.0, "saved_usd": 0.0},
        }
        assert status["waits_for"] == "1 provider batch at acme/small"
        assert status["chunks"][0]["provider_batch_id"] == simulator.batches()[0]["id"]
        assert json.loads(one.run("jobs", batch, "job-1", "--json").stdout)["lane"] == "batch"
        assert "20 jobs in it" in one.run("status", batch).stderr
        one.run("cancel", batch)
        assert one.wait(batch)["status"] == "cancelled"
        assert [each["status"] for each in simulator.batches()] == ["cancelled"]
        assert_paid_once(simulator, one.status(batch))


def test_check_says_whether_the_key_may_use_the_batch_lane(tmp_path: Path) -> None:
    with Simulator() as simulator, site(tmp_path, simulator) as one:
        assert "acme, batch lane" in (done := one.run("check", status=None)).stderr + done.stdout
        assert simulator.batches() == []


@pytest.mark.long
def test_a_line_goes_on_in_the_flex_lane_after_an_invalid_answer(tmp_path: Path) -> None:
    """The answer of the Batch API is kept, and the further one is asked for at the cheaper live price."""
    workflow = 'lanes = ["batch", "flex", "live"]\nbatch_min_time = "1s"\ndeadline = "2h"\non_invalid = "retry"\n'
    flaws = [{"kind": "invalid", "part": 0.5, "answers": 1}]
    with (
        Simulator(flaws=flaws) as simulator,
        Site(
            tmp_path,
            simulator,
            model=f"{PRICES}\nflex_price = 0.5",
            provider=PROVIDER,
            tables=f"[workflows.nightly]\n{workflow}",
        ) as one,
    ):
        one.start_worker()
        batch = one.submit([asking(number) for number in range(1, 21)])
        status = one.wait(batch)
        lines, _ = one.results(batch)
        assert {line["overnight"]["checks"]["result"] for line in lines} == {"valid"}
        again = [line["overnight"]["answers"] for line in lines if "answers" in line["overnight"]]
        assert {tuple(each["lane"] for each in answers) for answers in again} == {("batch", "flex")}
        assert 0 < len(again) == status["again"]["fixed"] < 20
        assert round(status["cost_usd"] * 1e9) == simulator.stats()["cost_nusd"]
        assert status["cost_usd"] == pytest.approx(sum(line["overnight"]["cost_usd"] for line in lines))
