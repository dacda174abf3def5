"""Agents as their users meet them: in a batch, on real workers, and on the command line."""

import json
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.agents import line
from tests.support.fixtures import site_fixture
from tests.support.site import Site, job, wait_for
from tests.support.toml import AGENTS

pytestmark = pytest.mark.long

PRICE = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0"


site = site_fixture(more=AGENTS, model=PRICE, workers=1)


def test_agents_and_plain_jobs_share_a_batch(site: Site, simulator: Simulator) -> None:
    """Results, money and stories of both kinds."""
    simulator.configure(failures=[{"mode": "429", "retry_after": "6", "times": 1, "job": "job-1/1"}])
    lines = [line("chain", number, calls=3) for number in range(1, 4)]
    batch = site.submit([*lines, line("raising", 4, secret="sesame"), job(5)])
    status = site.wait(batch)
    assert status["request_counts"] == {"total": 5, "completed": 4, "failed": 1}

    found, errors = site.results(batch)
    agents = {one["custom_id"]: one for one in found if one["custom_id"] != "job-5"}
    for one in agents.values():
        assert one["response"]["status_code"] == 200
        assert len(one["response"]["body"]["texts"]) == 3
        assert one["overnight"]["calls"] == 3
    assert "ValueError: no good: sesame" in errors[0]["error"]["message"]

    entries = simulator.journal()
    assert [entry["job"] for entry in entries if entry["status"] == 429] == ["job-1/1"]
    paid = [entry["job"] for entry in entries if entry["status"] == 200]
    assert len(paid) == len(set(paid)) == 11
    billed = sum(entry["cost_nusd"] for entry in entries) / 1e9
    assert status["cost_usd"] == pytest.approx(billed)
    assert sum(one["overnight"]["cost_usd"] for one in (*found, *errors)) == pytest.approx(billed)
    assert status["calls"] == len(entries)

    told = json.loads(site.run("jobs", batch, "job-1", "--json").stdout)
    assert told["state"] == "completed"
    assert told["journal"]["waits"] >= 1
    assert [entry["target"] for entry in told["journal"]["entries"]] == ["acme/small"] * 3
    assert told["journal"]["cost_usd"] == pytest.approx(agents["job-1"]["overnight"]["cost_usd"])
    shown = site.run("jobs", batch, "job-4").stdout
    assert "agent_error: ValueError: no good: sesame" in shown
    assert "completed" in site.run("jobs", batch, "job-5").stdout
    assert 'no job with the custom_id "job-6"' in site.run("jobs", batch, "job-6", status=2).stderr
    log = site.workers[0].said()
    assert "sesame" not in log
    assert "its agent raised ValueError" in log


def test_a_cancelled_agent_tells_what_its_calls_have_cost(simulator: Simulator, tmp_path: Path) -> None:
    """It waits in its queue, two of its calls behind it, when its batch is cancelled."""
    simulator.configure(failures=[{"mode": "429", "retry_after": "600", "times": 1, "job": "job-31/2"}])
    with Site(tmp_path, simulator, more=AGENTS, model=PRICE) as site:
        site.start_worker()
        batch = site.submit([line("chain", 31, calls=3)])
        wait_for(lambda: json.loads(site.run("jobs", batch, "job-31", "--json").stdout)["journal"]["waits"])
        site.run("cancel", batch)
        status = site.wait(batch)
        (entry,) = site.results(batch)[1]
    assert entry["error"]["code"] == "batch_cancelled"
    assert "while this job waited (after 2 calls, $0.000" in entry["error"]["message"]
    billed = sum(call["cost_nusd"] for call in simulator.journal() if call["job"].startswith("job-31/")) / 1e9
    assert billed > 0
    assert entry["overnight"]["cost_usd"] == pytest.approx(billed)
    assert status["cost_usd"] == pytest.approx(billed)


def test_an_estimate_says_that_it_knows_nothing_of_agents(site: Site) -> None:
    plain = json.loads(site.run("estimate", str(site.input([job(41)])), "--json").stdout)
    mixed = json.loads(site.run("estimate", str(site.input([job(41), line("chain", 42, calls=3)])), "--json").stdout)
    assert mixed["agent_lines"] == 1
    assert mixed["lines"] == 2
    assert mixed["input_tokens"] == plain["input_tokens"]
    assert "their calls are not known in advance" in mixed["notes"][0]
    assert "tokens" not in site.run("estimate", str(site.input([line("chain", 42, calls=3)]))).stdout


def test_an_unknown_agent_is_reported_with_its_line(site: Site) -> None:
    path = site.input([line("chain", 1, calls=1), line("chian", 2)])
    told = site.run("submit", str(path), status=2).stderr
    assert 'line 2: there is no agent "chian"; did you mean chain?' in told


def test_a_broken_module_is_reported_at_once(simulator: Simulator, tmp_path: Path) -> None:
    with Site(tmp_path, simulator, more='agents = ["broken"]') as broken:
        (tmp_path / "broken.py").write_text("import nothing_like_it")
        words = "agents: \"broken\" cannot be imported: ModuleNotFoundError: No module named 'nothing_like_it'"
        worker = broken.start_worker(ready=False)
        told = broken.run("submit", str(broken.input([line("any")])), status=2).stderr
        assert f"overnight.toml: {words}" in told
        assert "broken.py, line 1" in told
        assert worker.process.wait(60) == 2
        assert words in worker.said()
