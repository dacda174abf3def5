"""Where a job goes after a failure: another target, another key, or its end."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Simulator
from tests.support import impatient
from tests.support.delivery import Desk
from tests.support.impatient import ways
from tests.support.site import job

short_backoff = impatient.short_backoff
desk = impatient.desk


def test_a_failed_attempt_goes_to_another_target_at_once(
    tmp_path: Path, valkey: str, simulator: Simulator, desk: Desk
) -> None:
    del desk
    with Desk(tmp_path, valkey, ways(simulator, "targets")) as both:
        simulator.configure(failures=[{"mode": "500", "model": "small"}])
        began = time.monotonic()
        delivery = both.deliver(job(1, model="mix"))
        assert time.monotonic() - began < 1.0
    assert delivery.line is not None
    story: dict[str, Any] = delivery.line["overnight"]
    assert (story["provider"], story["attempts"]) == ("spare", 2)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("429", "targets"),
        ("429", "keys"),
        ("insufficient_quota", "targets"),
        ("insufficient_quota", "keys"),
        ("insufficient_quota", "keys of one quota"),
    ],
)
def test_a_job_that_cannot_wait_takes_another_route(
    tmp_path: Path, valkey: str, simulator: Simulator, desk: Desk, mode: str, kind: str
) -> None:
    del desk
    simulator.configure(failures=[{"mode": mode, "times": 1, "retry_after": "60"}])
    with Desk(tmp_path, valkey, ways(simulator, kind)) as two:
        delivery = two.deliver(job(1, model="mix"), deadline=two.now() + 20)
        assert bool(two.snapshot().blocked_accounts) == (mode != "429")
    assert delivery.answered
    assert delivery.state.attempts == 0
    refused, answered = simulator.journal()
    assert (refused["model"], refused["key"]) != (answered["model"], answered["key"])


@pytest.mark.parametrize("modes", [("429", "500"), ("500", "429")])
def test_a_failed_target_is_retried_if_the_other_is_shut(
    tmp_path: Path, valkey: str, simulator: Simulator, desk: Desk, modes: tuple[str, str]
) -> None:
    del desk
    simulator.configure(
        failures=[{"mode": mode, "times": 1, "retry_after": "60" if mode == "429" else None} for mode in modes]
    )
    with Desk(tmp_path, valkey, ways(simulator, "targets")) as two:
        delivery = two.deliver(job(1, model="mix"), deadline=two.now() + 20)
    assert delivery.answered
    assert delivery.state.attempts == 1
    by_status = {entry["status"]: entry["model"] for entry in simulator.journal()}
    assert len(simulator.journal()) == 3
    assert by_status[200] == by_status[500] != by_status[429]


@pytest.mark.parametrize("mode", ["429", "insufficient_quota"])
@pytest.mark.parametrize(("kind", "calls"), [("one", 1), ("keys of one quota", 1), ("keys", 2), ("targets", 2)])
def test_what_no_way_takes_before_its_deadline_fails_at_once(
    tmp_path: Path, valkey: str, simulator: Simulator, desk: Desk, mode: str, kind: str, calls: int
) -> None:
    del desk
    calls = 2 if (mode, kind) == ("insufficient_quota", "keys of one quota") else calls
    simulator.configure(failures=[{"mode": mode, "retry_after": "60"}])
    with Desk(tmp_path, valkey, ways(simulator, kind)) as refused:
        began = time.monotonic()
        delivery = refused.deliver(job(1, model="mix"), deadline=refused.now() + 20)
        assert time.monotonic() - began < 5
        after = refused.snapshot()
    assert delivery.failure == "deadline_exceeded"
    assert delivery.line is not None
    words = delivery.line["error"]["message"]
    assert " s, past its deadline: " in words
    assert len(simulator.journal()) == calls
    assert len(after.blocked_accounts) == (calls if mode != "429" else 0)
    assert after.open_reservations == 0


def test_a_place_that_lies_past_the_deadline_is_given_back(
    tmp_path: Path, valkey: str, simulator: Simulator, desk: Desk
) -> None:
    del desk
    waits = [{"mode": "429", "times": 1, "retry_after": seconds} for seconds in ("60", "4")]
    simulator.configure(failures=waits)
    with Desk(tmp_path, valkey, ways(simulator, "keys")) as two:
        began = time.monotonic()
        delivery = two.deliver(job(1, model="mix"), deadline=two.now() + 2)
        assert time.monotonic() - began < 2
        assert two.snapshot().open_reservations == 0
    assert delivery.failure == "deadline_exceeded"
    assert len(simulator.journal()) == 2
