"""What goes wrong, and what becomes of the job."""

from typing import Any

from tests.simulator import Simulator
from tests.support.site import Site, job


def test_1_a_429_costs_no_attempt(site: Site, provider: Simulator) -> None:
    provider.configure(failures=[{"mode": "429", "times": 1, "retry_after": "2", "job": "throttled"}])
    lines, errors = answers(site, job(1, text="throttled"))
    assert errors == []
    assert lines[0]["overnight"]["attempts"] == 1
    assert not [entry for entry in provider.journal() if entry["early"]]


def test_2_a_failure_is_tried_again(site: Site, provider: Simulator) -> None:
    provider.configure(failures=[{"mode": "500", "times": 2, "job": "unlucky"}])
    lines, errors = answers(site, job(1, text="unlucky"))
    assert errors == []
    assert lines[0]["overnight"]["attempts"] == 3


def test_3_a_refusal_is_final_and_keeps_the_providers_words(site: Site, provider: Simulator) -> None:
    provider.configure(failures=[{"mode": "422", "job": "impossible"}])
    lines, errors = answers(site, job(1, text="impossible"))
    assert lines == []
    assert errors[0]["response"]["status_code"] == 422
    assert errors[0]["error"]["message"]


def answers(site: Site, line: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The output and the error lines of a batch of one job."""
    batch = site.submit([line], workflow="tickets")
    site.wait(batch)
    return site.results(batch)
