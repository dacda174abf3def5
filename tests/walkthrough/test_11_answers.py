"""Is each answer what its line asked for? Overnight counts those that aren't, and says why."""

import json

import pytest

from tests.simulator import Simulator
from tests.support.asking import asking
from tests.support.site import Site, job


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


def test_3_a_line_asks_again_and_a_stronger_model_has_the_last_word(site: Site, provider: Simulator) -> None:
    provider.configure(flaws=[{"kind": "invalid", "part": 1.0, "model": "tiny"}])
    try:
        batch = site.submit([asking(3, model="tiny")], workflow="invoices")
        status = site.wait(batch)
    finally:
        provider.configure(flaws=[])
    assert (status["checks"], status["again"]["fixed"]) == ({}, 1)

    [line], _ = site.results(batch)
    report = line["overnight"]
    assert [(each["model"], each["checks"]["result"]) for each in report["answers"]] == [
        ("tiny", "invalid"),
        ("small", "valid"),
    ]
    assert report["cost_usd"] == pytest.approx(sum(each["cost_usd"] for each in report["answers"]))


def test_4_a_check_of_your_own_gets_each_answer(site: Site) -> None:
    batch = site.submit([job(4)], workflow="invoices")  # asks for no JSON, so only our check objects
    assert site.wait(batch)["checks"] == {"invalid": 1}
    [line], _ = site.results(batch)
    assert line["overnight"]["checks"]["reason"].startswith("check my_checks:invoice: unexpected character")
    assert len(line["overnight"]["answers"]) == 2


def test_5_an_estimate_says_what_further_answers_can_cost(site: Site) -> None:
    file = str(site.input([asking(5, model="tiny")]))
    plain = json.loads(site.run("estimate", file, "-w", "tickets", "--json").stdout)
    asked_again = json.loads(site.run("estimate", file, "-w", "invoices", "--json").stdout)
    assert plain["further_answers_ceiling_usd"] == 0
    # One further answer by `small`, a hundred times as expensive, with twice the room.
    assert asked_again["further_answers_ceiling_usd"] > 50 * asked_again["ceiling_usd"]
    assert "if every line asks for as many as it may have" in site.run("estimate", file, "-w", "invoices").stderr
