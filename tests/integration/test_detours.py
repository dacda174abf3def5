"""A job that failed at one target, and whose other target takes no call for now: it holds nobody up, nor itself."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from limits.admission import Throttle
from limits.keys import Keys
from limits.provider import latch, set_circuit, throttled
from limits.scripts import Call
from tasks import retry, run_job
from tests.delivery import Delivery, Desk
from tests.simulator import Simulator
from tests.site import job

MIX = """
[models.mix]
targets = [
    { provider = "acme", model = "small", weight = 1000 },
    { provider = "spare", model = "tiny", weight = 0.001 },
]
"""

SHUT: list[Any] = [
    pytest.param(lambda keys: latch(keys, "spare/0", "pay"), id="latched"),
    pytest.param(lambda keys: set_circuit(keys, "spare/tiny", "open"), id="circuit open"),
    pytest.param(lambda keys: throttled(keys, Throttle("spare/0/tiny", 60.0)), id="paused"),
]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as made:
        yield made


@pytest.fixture
def desk(tmp_path: Path, valkey: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("ACME_KEY", "sk-test-aBcDeFgHiJkLmNoP")
    monkeypatch.setattr(retry, "BACKOFF", 0.4)
    simulator.configure(failures=[])
    simulator.clear()
    tables = [
        f'[providers.{name}]\napi = "openai"\nbase_url = "{simulator.base_url}"\napi_key = "env:ACME_KEY"\n'
        f"[providers.{name}.models.{model}]\n"
        for name, model in (("acme", "small"), ("spare", "tiny"))
    ]
    with Desk(tmp_path, valkey, "".join(tables) + MIX) as made:
        yield made


def mixed(desk: Desk) -> Delivery:
    delivery = desk.deliver(job(1, model="mix"))
    assert run_job.gates.shut(desk.workflow, "mix") == 0.0, "other jobs may go to the target that takes calls"
    assert run_job.gates.allowed(desk.workflow) != 0
    return delivery


@pytest.mark.parametrize("shut", SHUT)
def test_the_target_that_failed_is_tried_again_after_its_backoff(
    desk: Desk, simulator: Simulator, shut: Callable[[Keys], Call[Any]]
) -> None:
    desk.run(shut(desk.keys))
    simulator.configure(failures=[{"mode": "500", "model": "small", "times": 2}])
    delivery = mixed(desk)
    assert delivery.answered
    assert delivery.memory.attempts == 2
    first, second, third = simulator.journal()
    assert {each["model"] for each in simulator.journal()} == {"small"}
    assert 0.2 <= second["at"] - first["at"] < 1.5, "0.4 s, spread by a half"
    assert 0.4 <= third["at"] - second["at"] < 2.0


@pytest.mark.parametrize("shut", SHUT)
def test_a_long_backoff_is_waited_for_in_the_queue(
    desk: Desk, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, shut: Callable[[Keys], Call[Any]]
) -> None:
    monkeypatch.setattr(retry, "BACKOFF", 10.0)
    desk.run(shut(desk.keys))
    simulator.configure(failures=[{"mode": "500", "model": "small", "times": 1}])
    delivery = mixed(desk)
    assert delivery.snooze is not None
    assert 4.5 < delivery.snooze.seconds <= 15.0
    assert delivery.memory.attempts == len(simulator.journal()) == 1


def test_another_target_that_is_free_again_soon_is_waited_for(
    desk: Desk, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BACKOFF", 10.0)
    desk.run(throttled(desk.keys, Throttle("spare/0/tiny", 0.6)))
    simulator.configure(failures=[{"mode": "500", "model": "small", "times": 1}])
    assert mixed(desk).answered
    assert [each["model"] for each in simulator.journal()] == ["small", "tiny"]


def test_where_no_target_takes_a_call_the_gate_shuts(desk: Desk, simulator: Simulator) -> None:
    desk.run(latch(desk.keys, "spare/0", "pay"))
    simulator.configure(failures=[{"mode": "401", "model": "small", "times": 1}])
    delivery = desk.deliver(job(1, model="mix"))
    assert delivery.snooze is not None
    assert run_job.gates.shut(desk.workflow, "mix") > 0
