"""A budget that binds, with five hundred calls in flight: never exceeded, and used to within one job's price."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Simulator
from tests.support.site import Site, jobs, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]

#: Dollars a million tokens, as the provider bills and as the configuration says.
INPUT, OUTPUT = 1.0, 20.0
#: n$: what one job can cost at most: a prompt of 60 bytes at the outside and 272 of framing, and 60 of output.
DEAREST = (60 + 272) * 1_000 + 60 * 20_000
DOLLAR = 10**9

PROVIDER = {
    "models": {"*": {"input_usd_per_mtok": INPUT, "output_usd_per_mtok": OUTPUT}},
    "latency": [10.0, 14.0],
    "answer_tokens": [10, 60],
}
MODEL = f"input_usd_per_mtok = {INPUT}\noutput_usd_per_mtok = {OUTPUT}"
#: Seconds: calls of 12 s hold what they may cost, so each round of them can spend about half of what is left.
LAST = 240
#: Calls at a time that either test wants, and the slots of each of two workers, which are to have them in flight.
IN_FLIGHT, SLOTS = 500, 270
WORKFLOW = '[workflows.nightly]\nbudget_usd = 1.0\nbudget_window = "total"\n'


def budget(site: Site) -> dict[str, Any]:
    """`overnight limits`: the workflow's budget, in whole n$."""
    (found,) = json.loads(site.run("limits", "--json").stdout)["budgets"]
    return {name: round(found[f"{name}_usd"] * DOLLAR) for name in ("limit", "spent", "held", "left")}


def used_up(site: Site) -> Any:
    found = budget(site)
    return found["held"] == 0 and found["left"] < DEAREST and found


def test_the_provider_never_bills_more_than_the_budget(tmp_path: Path) -> None:
    with Simulator(PROVIDER) as provider, Site(tmp_path, provider, model=MODEL, tables=WORKFLOW) as site:
        site.start_workers(2, concurrency=SLOTS)
        site.submit(jobs(3_000, max_tokens=60))
        found = wait_for(lambda: used_up(site), LAST, 0.5, what="budget used up")
        stats = provider.stats()
        assert stats["peak_in_flight"] >= IN_FLIGHT
        assert stats["cost_nusd"] <= DOLLAR
        assert DOLLAR - stats["cost_nusd"] < DEAREST
        assert found["spent"] == stats["cost_nusd"], "what was answered is counted to the n$"


def test_a_killed_worker_leaves_no_money_held_and_none_uncounted(tmp_path: Path) -> None:
    with (
        Simulator(PROVIDER) as provider,
        Site(tmp_path, provider, model=MODEL, tables=WORKFLOW) as site,
    ):
        first, _ = site.start_workers(2, concurrency=SLOTS)
        site.submit(jobs(3_000, max_tokens=60))
        wait_for(lambda: provider.stats()["in_flight"] >= IN_FLIGHT, 60, 0.05, what="calls in flight")
        first.kill()
        found = wait_for(lambda: used_up(site), LAST, 0.5, what="budget used up")
        wait_for(lambda: provider.stats()["in_flight"] == 0, 30, what="quiet provider")
        stats = provider.stats()
        spent = json.loads(site.run("costs", "--json").stdout)["total"]
        presumed = round(spent["presumed_usd"] * DOLLAR)
        hung_up = sum(entry["cost_nusd"] for entry in provider.journal() if entry["hung_up"])
        assert stats["hung_up"] > 0
        assert spent["presumed_calls"] >= stats["hung_up"]
        assert presumed >= hung_up, "what was in flight counts at its upper bound"
        assert stats["cost_nusd"] <= found["spent"] <= DOLLAR
        assert round(spent["total_usd"] * DOLLAR) == found["spent"], "ledger and budget tell the same"
