"""The flex lane from `submit` to the result files: real workers, and a provider with a flex tier on loopback."""

import json
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.site import Site, job, jobs, lanes_of, wait_for

PRICES = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0\nflex_price = 0.5"
WORKFLOW = '[workflows.nightly]\nlanes = ["flex", "live"]\ndeadline = "2h"\nbudget_usd = 5\n'


def site(folder: Path, simulator: Simulator, *, workflow: str = WORKFLOW) -> Site:
    return Site(folder, simulator, model=PRICES, tables=workflow)


@pytest.mark.long
def test_a_batch_goes_by_flex_at_half_the_price(tmp_path: Path) -> None:
    with Simulator() as simulator, site(tmp_path, simulator) as one:
        path = str(one.input(jobs(30)))
        found = json.loads(one.run("estimate", path, "-w", "nightly", "--json").stdout)
        assert (found["lanes"]["batch_lines"], found["lanes"]["flex_lines"], found["lanes"]["reason"]) == (0, 30, None)
        assert found["lanes"]["cost_usd"] == pytest.approx(found["cost_usd"] / 2)
        assert "30 by flex of 30 jobs" in one.run("estimate", path, "-w", "nightly").stderr
        one.start_worker()
        done = one.run("submit", path, "-w", "nightly")
        assert "lanes flex, live: about $" in done.stderr
        batch = done.stdout.strip()
        status = one.wait(batch)
        lines, errors = one.results(batch)
        assert lanes_of(lines) == {"flex": 30}
        assert errors == []
        stats = simulator.stats()
        assert round(status["cost_usd"] * 1e9) == stats["cost_nusd"]
        shown = one.status(batch)
        assert shown["lanes"]["flex"] == {"calls": 30, "saved_usd": pytest.approx(status["cost_usd"])}
        assert "30 answers" in one.run("status", batch).stderr
        costs = json.loads(one.run("costs", "--json").stdout)["total"]
        assert costs["flex_lane"] == {"calls": 30, "saved_usd": pytest.approx(status["cost_usd"])}


@pytest.mark.long
def test_what_flex_has_no_capacity_for_goes_live_in_time(tmp_path: Path) -> None:
    shed = [{"mode": "498", "tier": "flex"}]
    near = WORKFLOW.replace('"2h"', '"40s"')
    with Simulator(failures=shed) as simulator, site(tmp_path, simulator, workflow=near) as one:
        one.file.write_text(one.file.read_text().replace("[providers.acme]", '[providers.acme]\nflex_timeout = "15s"'))
        one.start_worker()
        batch = one.submit(jobs(20))
        wait_for(lambda: simulator.stats()["requests"] > 0, what="a call by flex")
        status = one.wait(batch, seconds=60)
        assert status["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
        lines, _ = one.results(batch)
        assert lanes_of(lines) == {"live": 20}
        assert round(status["cost_usd"] * 1e9) == simulator.stats()["cost_nusd"]


@pytest.mark.long
def test_without_a_flex_price_every_line_goes_live(tmp_path: Path) -> None:
    with Simulator() as simulator, site(tmp_path, simulator) as one:
        one.file.write_text(one.file.read_text().replace("flex_price = 0.5", ""))
        path = str(one.input(jobs(5)))
        assert "live: no model has a price for its flex tier" in one.run("estimate", path, "-w", "nightly").stderr
        one.start_worker()
        batch = one.submit(jobs(5))
        one.wait(batch)
        assert lanes_of(one.results(batch)[0]) == {"live": 5}


@pytest.mark.long
def test_a_paused_flex_tier_is_shown_and_can_be_resumed(tmp_path: Path) -> None:
    shed = [{"mode": "498", "tier": "flex", "retry_after": "300"}]
    with Simulator(failures=shed) as simulator, site(tmp_path, simulator) as one:
        one.start_worker()
        batch = one.submit(jobs(10))
        words = "the flex tier of acme/small has no capacity: paused for "
        wait_for(lambda: words in (one.status(batch)["waits_for"] or ""), what="the blocker")
        quotas = json.loads(one.run("limits", "--json").stdout)["quotas"]
        paused = {each["quota"]: each["paused_until"] for each in quotas}
        assert paused["flex:acme/0/small"] is not None
        assert paused["acme/0/small"] is None
        simulator.configure(failures=[])
        assert "no longer paused" in one.run("limits", "--resume", "acme/small").stderr
        assert one.wait(batch, seconds=150)["request_counts"]["completed"] == 10
        assert lanes_of(one.results(batch)[0]) == {"flex": 10}


@pytest.mark.long
def test_what_the_batch_lane_brings_no_result_for_goes_by_flex(tmp_path: Path) -> None:
    lanes = WORKFLOW.replace('["flex", "live"]', '"auto"') + 'batch_min_time = "1s"\n'
    faults = [{"mode": "missing", "done": 0.5}]
    with Simulator(batch_faults=faults) as simulator, site(tmp_path, simulator, workflow=lanes) as one:
        text = one.file.read_text().replace("[providers.acme]", '[providers.acme]\nbatch_poll = "0.3s"')
        one.file.write_text(text)
        one.start_worker()
        batch = one.submit([*jobs(20), job(21, service_tier="standard")])
        status = one.wait(batch, seconds=120)
        lines, errors = one.results(batch)
        assert errors == []
        assert lanes_of(lines) == {"batch": 10, "flex": 10, "live": 1}
        assert round(status["cost_usd"] * 1e9) == simulator.stats()["cost_nusd"]
        assert simulator.stats()["billed_again"] == 0
