"""Agents that run away or fail: they are stopped, and their result line says why and what they have cost."""

import logging
from pathlib import Path

import pytest

from tests.simulator import Simulator
from tests.support.agents import line
from tests.support.delivery import Desk
from tests.support.fixtures import desk_fixture
from tests.support.replays import agents_at, billed_calls
from tests.support.site import KEY

WORKFLOWS = """
[workflows.nightly]
[workflows.few]
max_calls = 4
[workflows.poor]
max_usd = 0.001
[workflows.quick]
max_seconds = 1.0
"""


desk = desk_fixture(lambda simulator: agents_at(simulator, WORKFLOWS))


@pytest.mark.parametrize(
    ("workflow", "name", "code", "calls"),
    [("few", "endless", "max_calls", 4), ("poor", "endless", "max_usd", None), ("quick", "sleeper", "max_seconds", 1)],
)
def test_a_runaway_agent_is_stopped_and_its_cost_reported(
    desk: Desk, simulator: Simulator, workflow: str, name: str, code: str, calls: int | None
) -> None:
    simulator.configure(latency=0.01)

    result = desk.deliver(line(name, 19), workflow=workflow).line
    assert result is not None
    simulator.configure(latency=0.0)
    assert result["error"]["code"] == code
    billed = sum(entry["cost_nusd"] for entry in simulator.journal())
    assert result["overnight"]["cost_usd"] == pytest.approx(billed / 1e9)
    assert 0 < billed < 1_000_000
    assert f"(after {result['overnight']['calls']} call" in result["error"]["message"]
    if calls is not None:
        assert len(billed_calls(simulator)) == result["overnight"]["calls"] == calls


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raising", "ValueError: no good: my-secret"),
        ("unwritable", "returned what JSON cannot hold: the value['when'][0] is a set"),
        ("leaving", "the agent raised SystemExit"),
    ],
)
def test_an_agents_failure_is_in_its_line_and_nowhere_else(
    desk: Desk, caplog: pytest.LogCaptureFixture, name: str, words: str
) -> None:
    caplog.set_level(logging.DEBUG)

    result = desk.deliver(line(name, 20, secret="my-secret")).line
    assert result is not None
    assert result["error"]["code"] == "agent_error"
    assert words in result["error"]["message"]
    assert "my-secret" not in caplog.text
    assert "Simulated" not in caplog.text


def test_a_step_makes_no_calls(desk: Desk) -> None:
    result = desk.deliver(line("nested", 29)).line
    assert result is not None
    assert "a step makes no calls" in result["error"]["message"]


def test_a_message_calls_only_agents_that_its_workflow_lists(
    tmp_path: Path, valkey: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", KEY)
    simulator.configure(failures=[], latency=0.0)
    simulator.clear()
    listed = agents_at(simulator, '[workflows.nightly]\nagents = ["chain"]\n')
    with Desk(tmp_path, valkey, listed) as desk:
        for workflow, name in (("nightly", "careless"), ("mallory", "chain")):
            refused = desk.deliver(line(name, 51, calls=1), workflow=workflow)
            assert refused.failure == "invalid_request"
            assert refused.line is not None
            assert f"jobs of workflow '{workflow}' may not call agent '{name}'" in refused.line["error"]["message"]
        assert desk.deliver(line("chain", 52, calls=1), workflow="nightly").answered
    assert billed_calls(simulator) == ["job-52/0"]
