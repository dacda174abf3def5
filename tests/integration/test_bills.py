"""What a provider reports of its tokens: the bill of a failure, numbers that cannot be, answers that cannot be kept."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks.jobs import retry
from tests.simulator import Simulator
from tests.support.delivery import Desk
from tests.support.fixtures import simulator_fixture
from tests.support.site import job
from tests.support.toml import provider

#: A dollar a million tokens either way: a token is 1,000 n$.
DOLLAR = "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 1.0\n"

#: What a job of `site.job` costs at most: 354 tokens and some bytes.
CEILING = 370_000


simulator = simulator_fixture(models={"*": {"output_usd_per_mtok": 1.0}}, headers=False)


@pytest.fixture
def desk(tmp_path: Path, valkey: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("ACME_KEY", "sk-test-aBcDeFgHiJkLmNoP")
    monkeypatch.setattr(retry, "BACKOFF", 0.05)
    simulator.configure(failures=[])
    simulator.clear()
    models = {"small": f"{DOLLAR}tpm = 60_000\nheadroom = 1.0"}
    acme = provider(simulator.base_url, more='counting = "plain"', models=models)
    toml = f"{acme}[workflows.nightly]\nbudget_usd = 1.0\n"
    with Desk(tmp_path, valkey, toml) as made:
        yield made


def response(number: int) -> dict[str, Any]:
    body = {"model": "small", "input": f"Say something about {number}.", "max_output_tokens": 50}
    return {**job(number), "url": "/v1/responses", "body": body}


@pytest.mark.parametrize("mode", ["usage_32_bits", "usage_64_bits"])
@pytest.mark.parametrize("line", [job(1), response(1)], ids=["chat", "response"])
def test_a_usage_that_cannot_be_counts_as_none(
    desk: Desk, simulator: Simulator, caplog: pytest.LogCaptureFixture, mode: str, line: dict[str, Any]
) -> None:
    simulator.configure(failures=[{"mode": mode}])
    with caplog.at_level(logging.WARNING):
        delivery = desk.deliver(line)
    assert delivery.answered
    assert len(simulator.journal()) == 1
    spent, (bucket,) = desk.spent(), desk.snapshot().buckets
    assert (spent.presumed, spent.cost) == (1, 0)
    assert 0 < spent.presumed_cost <= CEILING
    assert all(each.available > 0 for each in bucket.dimensions), "its quota is not shut"
    told = (1 << int(mode[6:8])) - 1
    assert f"acme/small reported an implausible usage: {told} input and 8 output tokens" in caplog.text


def test_a_long_answer_is_believed(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(answer_tokens=30_000)
    line = job(1)
    del line["body"]["max_tokens"]
    assert desk.deliver(line, workflow="free").answered
    simulator.configure(answer_tokens=8)
    assert (desk.spent().presumed, desk.spent().cost) == (0, simulator.journal()[0]["cost_nusd"])


def test_an_answer_that_cannot_be_written_ends_the_job_once(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "deep"}])
    delivery = desk.deliver(job(1))
    assert delivery.failure == "broken_body"
    assert delivery.line is not None
    assert "nested too deeply" in delivery.line["error"]["message"]
    (call,) = simulator.journal()
    spent = desk.spent()
    assert (spent.failed_cost, spent.presumed_cost, spent.cost) == (call["cost_nusd"], 0, 0)
    assert delivery.line["overnight"]["cost_usd"] == call["cost_nusd"] / 1e9
    assert desk.snapshot().open_reservations == 0
    assert orjson.dumps(delivery.line)


@pytest.mark.parametrize("times", [1, None])
def test_a_failure_that_tells_its_usage_costs_what_it_says(desk: Desk, simulator: Simulator, times: int | None) -> None:
    simulator.configure(failures=[{"mode": "told_failure", "times": times}])
    delivery = desk.deliver(response(1))
    assert (delivery.answered, delivery.failure) == ((True, "") if times else (False, "server_error"))
    calls, spent = simulator.journal(), desk.spent()
    failed = calls[:times]
    assert spent.failed_cost == sum(call["cost_nusd"] for call in failed) > 0
    assert (spent.presumed, spent.presumed_cost) == (0, 0)
    assert spent.cost == sum(call["cost_nusd"] for call in calls) - spent.failed_cost
    (budget,) = desk.snapshot().budgets
    assert (budget.held, budget.spent) == (0, spent.cost + spent.failed_cost)
    assert delivery.line is not None
    assert delivery.line["overnight"]["cost_usd"] == pytest.approx(budget.spent / 1e9)


def test_a_failure_whose_usage_cannot_be_is_presumed(desk: Desk, simulator: Simulator) -> None:
    simulator.configure(failures=[{"mode": "told_failure_32_bits", "times": 1}])
    assert desk.deliver(response(1)).answered
    spent = desk.spent()
    assert (spent.presumed, spent.failed_cost) == (1, 0)
    assert 0 < spent.presumed_cost <= CEILING
