"""`overnight estimate` says what a file will cost. It sends nothing."""

import json

from tests.simulator import Simulator
from tests.support.site import Site, jobs


def test_1_an_estimate_sends_nothing_and_its_ceiling_holds(site: Site, provider: Simulator) -> None:
    before = len(provider.journal())
    file = site.input(jobs(5, text="estimated"))
    estimate = json.loads(site.run("estimate", str(file), "-w", "tickets", "--json").stdout)
    assert estimate["lines"] == 5
    assert len(provider.journal()) == before
    batch = site.run("submit", str(file), "-w", "tickets").stdout.strip()
    assert 0 < site.wait(batch)["cost_usd"] <= estimate["ceiling_usd"]
