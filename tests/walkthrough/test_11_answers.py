"""Is each answer what its line asked for? Overnight counts those that aren't, and says why."""

import json

from tests.simulator import Simulator
from tests.support.asking import asking
from tests.support.site import Site


def test_1_answers_are_checked_against_the_schema_of_their_lines(site: Site, provider: Simulator) -> None:
    provider.configure(flaws=[{"kind": "invalid", "part": 1.0, "answers": 1}])
    try:
        batch = site.submit([asking(1)], workflow="tickets")
        status = site.wait(batch)
    finally:
        provider.configure(flaws=[])
    assert status["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
    assert status["checks"] == {"invalid": 1}
    assert "checks     1 invalid" in site.run("status", batch).stderr

    [line], _ = site.results(batch)
    assert line["overnight"]["checks"] == {
        "result": "invalid",
        "reason": "the answer doesn't match its schema: $.total: 'seven' is not of type 'integer'",
    }


def test_2_an_answer_that_matches_is_valid(site: Site) -> None:
    batch = site.submit([asking(2)], workflow="tickets")
    assert site.wait(batch)["checks"] == {}
    [line], _ = site.results(batch)
    assert line["overnight"]["checks"] == {"result": "valid"}
    assert json.loads(line["response"]["body"]["choices"][0]["message"]["content"])["total"] == 7
