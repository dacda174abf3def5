"""2,000 lines, of which a provider answers 5 % invalid, 3 % truncated and 1 % refused."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Simulator, flaws
from tests.simulator.config import Flaw
from tests.support.asking import asking
from tests.support.fixtures import simulator_fixture, site_fixture
from tests.support.site import Line, Site, wait_for

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

#: The stronger model answers rightly, and so does any model with room for 100 tokens.
FLAWS = [
    {"kind": "invalid", "part": 0.05, "model": "small"},
    {"kind": "truncated", "part": 0.03, "ceiling": 100},
    {"kind": "refused", "part": 0.01, "model": "small"},
]
LARGE = {"input_usd_per_mtok": 10.0, "output_usd_per_mtok": 20.0}
TIGHT = 0.3

simulator = simulator_fixture(flaws=FLAWS, models={"*": {}, "large": LARGE})

site = site_fixture(
    model="input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0",
    tables=f"""
[providers.acme.models.large]
input_usd_per_mtok = 10.0
output_usd_per_mtok = 20.0
[workflows.kept]
[workflows.fixed]
on_invalid = "retry"
escalate = "large"
[workflows.tight]
on_invalid = "retry"
escalate = "large"
budget_usd = {TIGHT}
budget_window = "total"
when_exhausted = "fail"
""",
    workers=2,
)

LINES = [asking(number) for number in range(1, 2_001)]


def planned() -> Counter[str]:
    """How many lines have which flaw."""
    known = [Flaw(**each) for each in FLAWS]  # type: ignore[arg-type]  # by name
    found = (flaws.flaw_of(known, line["body"]["messages"][0]["content"], 1) for line in LINES)
    return Counter(flaw.kind for flaw in found if flaw is not None)


def billed(simulator: Any) -> float:
    return float(simulator.stats()["cost_nusd"]) / 1e9


def told(lines: list[Line]) -> float:
    return sum(line["overnight"]["cost_usd"] for line in lines)


def test_kept_answers_are_counted_exactly(site: Site, simulator: Any) -> None:
    simulator.clear()
    status = site.wait(site.submit(LINES, workflow="kept"), 100)
    assert (status["checks"], status["again"]) == (planned(), None)
    assert status["request_counts"] == {"total": 2_000, "completed": 2_000, "failed": 0}
    assert simulator.stats()["requests"] == 2_000
    assert status["cost_usd"] == pytest.approx(billed(simulator))


def test_all_are_fixed_at_the_cost_that_is_told(site: Site, simulator: Any) -> None:
    simulator.clear()
    batch = site.submit(LINES, workflow="fixed")
    status = site.wait(batch, 100)
    flawed = planned().total()
    output, _ = site.results(batch)
    assert (status["checks"], len(output)) == ({}, 2_000)
    assert {line["overnight"]["checks"]["result"] for line in output} == {"valid"}
    assert (status["again"]["lines"], status["again"]["fixed"]) == (flawed, flawed)
    assert simulator.stats()["requests"] == 2_000 + flawed
    assert status["calls"] == 2_000 + flawed
    assert status["cost_usd"] == pytest.approx(billed(simulator)) == pytest.approx(told(output))
    again = sum(each["cost_usd"] for line in output for each in line["overnight"].get("answers", [])[1:])
    assert status["again"]["cost_usd"] == pytest.approx(again)


def test_a_budget_that_binds_in_the_middle_is_never_exceeded(site: Site, simulator: Any) -> None:
    """A line with an answer keeps it when the budget is spent, and a line without one fails."""
    simulator.clear()
    batch = site.submit(LINES, workflow="tight")
    status = site.wait(batch, 100)
    output, errors = site.results(batch)
    assert billed(simulator) <= TIGHT
    assert status["cost_usd"] == pytest.approx(billed(simulator)) == pytest.approx(told(output))
    assert {line["error"]["code"] for line in errors} <= {"budget_exceeded"}
    assert len(output) + len(errors) == 2_000
    still_wrong = [line for line in output if line["overnight"]["checks"]["result"] != "valid"]
    assert still_wrong
    assert {line["overnight"]["answers"][-1]["error"]["code"] for line in still_wrong} == {"budget_exceeded"}
    assert 0 < status["again"]["fixed"] < status["again"]["lines"]
    assert Counter(line["overnight"]["checks"]["result"] for line in still_wrong) == status["checks"]


def test_a_cancelled_batch_keeps_the_answers_that_it_has(tmp_path: Path) -> None:
    """All lines have an invalid answer and wait for the stronger model, in their worker or in their queue."""
    tables = '[providers.acme.models.large]\nrpm = 1\n[workflows.nightly]\non_invalid = "retry"\nescalate = "large"\n'
    invalid = [{"kind": "invalid", "part": 1.0}]
    with Simulator(flaws=invalid) as simulator, Site(tmp_path, simulator, tables=tables) as one:
        one.start_worker(concurrency=20)
        batch = one.submit([asking(number) for number in range(1, 61)])
        wait_for(lambda: one.client().hlen(one.keys.kept(batch)) >= 55, 60.0, what="kept answers")
        one.run("cancel", batch)
        status = one.wait(batch, 60)
        output, errors = one.results(batch)
        assert status["status"] == "cancelled"
        asked = [line for line in output if "answers" in line["overnight"]]
        assert len(asked) >= 55
        assert len(output) + len(errors) == 60
        assert status["checks"] == {"invalid": len(output)}
        codes = {line["overnight"]["answers"][-1].get("error", {}).get("code") for line in asked}
        assert codes <= {"batch_stopped", "batch_cancelled", None}  # None: the stronger model has answered
        assert {"batch_stopped", "batch_cancelled"} & codes
        assert round(status["cost_usd"] * 1e9) == sum(round(line["overnight"]["cost_usd"] * 1e9) for line in output)
