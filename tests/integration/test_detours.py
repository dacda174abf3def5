"""A job that failed at one target, and whose other target takes no call: neither it nor other jobs are held up."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from limits.client.scripts import Call
from limits.feedback import set_circuit
from limits.keys import Keys
from limits.reservation import Throttle
from tasks.jobs import planning, retry
from tasks.jobs.state import EARLY
from tests.simulator import Simulator
from tests.support.delivery import Delivery, Desk
from tests.support.provider_feedback import block_account, throttled
from tests.support.site import job
from tests.support.toml import provider

MIX = """
[models.mix]
targets = [
    { provider = "acme", model = "small", weight = 1000 },
    { provider = "spare", model = "tiny", weight = 0.001 },
]
"""

SHUT: list[Any] = [
    pytest.param(lambda keys: block_account(keys, "spare/0", "pay"), id="latched"),
    pytest.param(lambda keys: set_circuit(keys, "spare/tiny", "open"), id="circuit open"),
    pytest.param(lambda keys: throttled(keys, Throttle("spare/0/tiny", 60.0)), id="paused"),
]


@pytest.fixture(autouse=True)
def clean(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_KEY", "sk-test-aBcDeFgHiJkLmNoP")
    monkeypatch.setattr(retry, "BACKOFF", 0.4)
    simulator.configure(failures=[])
    simulator.clear()


def toml(simulator: Simulator, *, small: str = "", tiny: str = "", more: str = "") -> str:
    """Two providers with a model each, which `mix` has as its targets; the second is used only if it must be."""
    tables = [
        provider(simulator.base_url, name, models={model: rows})
        for name, model, rows in (("acme", "small", small), ("spare", "tiny", tiny))
    ]
    return f"{''.join(tables)}{MIX}{more}"


@pytest.fixture
def desk(tmp_path: Path, valkey: str, simulator: Simulator) -> Iterator[Desk]:
    with Desk(tmp_path, valkey, toml(simulator)) as made:
        yield made


def mixed(desk: Desk) -> Delivery:
    delivery = desk.deliver(job(1, model="mix"))
    assert desk.runtime.gates.closed_for(desk.workflow, "mix") == 0.0, "other jobs may use the other target"
    assert desk.runtime.gates.allowed(desk.workflow) != 0
    return delivery


@pytest.mark.parametrize("shut", SHUT)
def test_the_target_that_failed_is_tried_again_after_its_backoff(
    desk: Desk, simulator: Simulator, shut: Callable[[Keys], Call[Any]]
) -> None:
    desk.run(shut(desk.keys))
    simulator.configure(failures=[{"mode": "500", "model": "small", "times": 2}])
    delivery = mixed(desk)
    assert delivery.answered
    assert delivery.state.attempts == 2
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
    assert 5.0 <= delivery.snooze.seconds + EARLY + 0.5 <= 15.5
    assert delivery.state.attempts == len(simulator.journal()) == 1


def test_another_target_that_is_free_again_soon_is_waited_for(
    desk: Desk, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BACKOFF", 10.0)
    desk.run(throttled(desk.keys, Throttle("spare/0/tiny", 0.6)))
    simulator.configure(failures=[{"mode": "500", "model": "small", "times": 1}])
    assert mixed(desk).answered
    assert [each["model"] for each in simulator.journal()] == ["small", "tiny"]


def test_a_failed_job_does_not_wait_for_a_rate_past_its_deadline(
    tmp_path: Path, valkey: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BACKOFF", 10.0)
    monkeypatch.setattr(planning, "MAX_AHEAD", 0.5)  # otherwise it is admitted ahead, and gives that back
    with Desk(tmp_path, valkey, toml(simulator, tiny="rpm = 15\nburst = 1\nheadroom = 1.0\n")) as desk:
        assert desk.deliver(job(9, model="tiny")).answered
        simulator.configure(failures=[{"mode": "500", "model": "small"}])
        delivery = desk.deliver(job(1, model="mix"), deadline=desk.now() + 2.5)
        assert delivery.failure == "deadline_exceeded"
        assert delivery.line is not None
        assert "past its deadline: requests a minute at spare/tiny" in delivery.line["error"]["message"]


def test_where_no_target_takes_a_call_the_gate_shuts(desk: Desk, simulator: Simulator) -> None:
    desk.run(block_account(desk.keys, "spare/0", "pay"))
    simulator.configure(failures=[{"mode": "insufficient_quota", "model": "small", "times": 1}])
    delivery = desk.deliver(job(1, model="mix"))
    assert delivery.snooze is not None
    assert desk.runtime.gates.closed_for(desk.workflow, "mix") > 0


#: A token costs 1,000 n$ at `small`, or a multiple of that. A job of `site.job` is held at some 355 tokens, and uses
#: some 35.
PRICE = "input_usd_per_mtok = {0}\noutput_usd_per_mtok = {0}\n"
CHEAP = f"[providers.acme.models.cheap]\n{PRICE.format(0.01)}"
NIGHTLY = '[workflows.nightly]\nbudget_usd = {}\nwhen_exhausted = "{}"\n'
FALLS = f'fallback = "cheap"\n{CHEAP}'

NEVER = [
    pytest.param("tpm = 10\n", "", 0, id="too small"),
    pytest.param(PRICE.format(10.0), NIGHTLY.format(0.001, "wait"), 0, id="too dear"),
    pytest.param(PRICE.format(10.0), NIGHTLY.format(0.001, "fallback") + FALLS, 0, id="too dear, with a fallback"),
    pytest.param(PRICE.format(2.0), NIGHTLY.format(0.00074, "fail"), 2, id="unpaid"),
    pytest.param(PRICE.format(2.0), NIGHTLY.format(0.00074, "fallback") + FALLS, 2, id="unpaid, with a fallback"),
]


@pytest.mark.parametrize(("tiny", "more", "before"), NEVER)
def test_another_targets_final_refusal_is_not_the_jobs_end(
    tmp_path: Path, valkey: str, simulator: Simulator, tiny: str, more: str, before: int
) -> None:
    """The target that failed takes the job once its backoff is over; `before`: jobs that have spent of the budget."""
    with Desk(tmp_path, valkey, toml(simulator, small=PRICE.format(1.0), tiny=tiny, more=more)) as desk:
        assert all(desk.deliver(job(9 - number, model="small")).answered for number in range(before))
        simulator.clear()
        simulator.configure(failures=[{"mode": "500", "model": "small", "times": 2}])
        delivery = mixed(desk)
        assert delivery.failure == ""
        assert delivery.answered
        assert delivery.state.attempts == 2
        first, second, third = simulator.journal()
        assert {each["model"] for each in simulator.journal()} == {"small"}
        assert 0.2 <= second["at"] - first["at"] < 1.5, "0.4 s, spread by a half"
        assert 0.4 <= third["at"] - second["at"] < 2.0


def test_a_long_backoff_of_the_only_target_is_snoozed(
    tmp_path: Path, valkey: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BACKOFF", 10.0)
    simulator.configure(failures=[{"mode": "500", "model": "small", "times": 1}])
    with Desk(tmp_path, valkey, toml(simulator, tiny="tpm = 10\n")) as desk:
        delivery = mixed(desk)
        assert delivery.snooze is not None
        assert 5.0 <= delivery.snooze.seconds + EARLY + 0.5 <= 15.5
        assert delivery.snooze.reason == "attempt 1 failed: 500 server_error"
        late = desk.deliver(job(2, model="mix"), state=delivery.state)
        assert late.answered
        assert late.state.attempts == 1
        simulator.configure(failures=[{"mode": "500", "model": "small", "times": 1}])
        hurried = desk.deliver(job(3, model="mix"), deadline=desk.now() + 3)
        assert hurried.failure == "deadline_exceeded", "the backoff ends after it"


def test_a_failed_cheaper_model_goes_to_its_other_target(
    tmp_path: Path, valkey: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's own model, which cannot be paid, has no target to go around."""
    monkeypatch.setattr(retry, "BACKOFF", 10.0)
    simulator.configure(failures=[{"mode": "500", "model": "cheap", "times": 1}])
    pair = MIX.replace("mix", "pair").replace('"small"', '"cheap"')
    more = f'{NIGHTLY.format(0.00036, "fallback")}fallback = "pair"\n{CHEAP}{pair}'
    prices = {"small": PRICE.format(1.0), "tiny": PRICE.format(0.01)}
    with Desk(tmp_path, valkey, toml(simulator, **prices, more=more)) as desk:
        assert desk.deliver(job(1)).answered
        assert desk.deliver(job(2)).answered
        assert [each["model"] for each in simulator.journal()] == ["small", "cheap", "tiny"]
