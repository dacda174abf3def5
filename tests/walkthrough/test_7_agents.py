"""An agent is a coroutine of yours that makes many calls. A line of a batch names it instead of a model."""

import json
from typing import Any

from tests.simulator import Simulator
from tests.support.site import Site


def ticket(number: int, agent: str = "triage") -> dict[str, Any]:
    body = {"text": f"Parcel {number} is late.", "customer": f"C-{number}"}
    return {"custom_id": f"ticket-{number}", "method": "POST", "url": f"/agents/{agent}", "body": body}


def test_1_a_line_calls_an_agent_and_gets_what_it_returns(site: Site) -> None:
    batch = site.submit([ticket(1)], workflow="support")
    site.wait(batch)
    (line,), _ = site.results(batch)
    assert line["response"]["body"]["order"] == "order of C-1"
    assert line["overnight"]["calls"] == 2
    assert line["overnight"]["cost_usd"] > 0


def test_2_an_agent_that_must_wait_pays_for_no_call_twice(site: Site, provider: Simulator) -> None:
    provider.clear()
    provider.configure(failures=[{"mode": "429", "times": 1, "retry_after": "2"}])
    batch = site.submit([ticket(2)], workflow="support")
    assert site.wait(batch)["request_counts"]["completed"] == 1
    assert [entry["status"] for entry in provider.journal()] == [429, 200, 200]


def test_3_the_journal_shows_each_call_and_step(site: Site) -> None:
    batch = site.submit([ticket(3)], workflow="support")
    site.wait(batch)
    report = json.loads(site.run("jobs", batch, "ticket-3", "--json").stdout)
    assert [entry["kind"] for entry in report["journal"]["entries"]] == ["call", "step", "call"]


def test_4_a_cap_stops_an_agent_that_never_ends(site: Site) -> None:
    batch = site.submit([ticket(4, "endless")], workflow="support")
    site.wait(batch)
    _, (error,) = site.results(batch)
    assert error["error"]["code"] == "max_calls"
    assert error["overnight"]["calls"] == 3
