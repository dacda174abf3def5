"""What a worker counts, and the port at which it serves its counts."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from limits.reservation import Admitted, Denied, Impossible
from tasks.jobs import hooks
from tasks.jobs.job import Job, Line
from tasks.jobs.store import Outcome
from tasks.monitoring import setup, worker_metrics
from tasks.monitoring.worker_metrics import Meter
from tests.support.watching import Scrape
from workers.providers.errors import Throttled
from workers.request import Snooze

JOB = Job(Line("a", "/v1/chat/completions", {"model": "small"}), "task-1", "nightly")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    found = CollectorRegistry()
    monkeypatch.setattr(hooks, "listeners", (Meter(found),))
    return found


def attempt() -> Any:
    route = SimpleNamespace(provider="acme", model="small", target="acme/small")
    return SimpleNamespace(job=JOB, route=route, number=1, sent_at=0.0)


def test_admissions_are_counted_by_answer_and_reason(registry: CollectorRegistry) -> None:
    answers = [
        Admitted(0, 0, 0.0, 0, 0, probe=False, sent=True, repeated=False),
        Admitted(0, 0, 1.5, 0, 0, probe=False, sent=False, repeated=False),
        Denied("tpm", "acme/0/small", 9.0),
        Denied("tpm", "acme/0/small", 9.0),
        Denied("budget", "workflow/nightly", None),
        Impossible("acme/0/small", "tpm", 9, 8),
    ]
    with hooks.delivery(JOB, "task-1", {}):
        for answer in answers:
            hooks.admitted(attempt(), answer)
    scrape = Scrape(generate_latest(registry).decode())
    for answer, reason, count in (
        ("admitted", "", 1),
        ("admitted", "later", 1),
        ("denied", "tpm", 2),
        ("denied", "budget", 1),
        ("impossible", "tpm", 1),
    ):
        found = scrape.sum("overnight_admissions_total", workflow="nightly", answer=answer, reason=reason)
        assert found == count, (answer, reason)


def test_calls_jobs_and_snoozes_are_counted(registry: CollectorRegistry) -> None:
    with hooks.delivery(JOB, "task-1", {}):
        hooks.called(attempt(), Throttled(status=429, code="rate_limit_exceeded"))
    with pytest.raises(Snooze), hooks.delivery(JOB, "task-1", {}):
        raise Snooze(1.0, "a pause")
    with hooks.delivery(JOB, "task-1", {}):
        line = b'{"response":{"status_code":400},"error":{"code":"invalid_request"}}'
        hooks.ended(Outcome(ok=False, line=line))
    scrape = Scrape(generate_latest(registry).decode())
    assert scrape.sum("overnight_call_seconds_count", provider="acme", model="small") == 1
    assert scrape.labels("overnight_call_seconds_count", "outcome") == {"rate_limit_exceeded"}
    assert scrape.sum("overnight_snoozes_total", workflow="nightly") == 1
    assert scrape.sum("overnight_jobs_total", workflow="nightly", outcome="failed") == 1


def test_a_worker_takes_the_next_free_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        first = taken.getsockname()[1]
        found = worker_metrics.serve("127.0.0.1", first)
    assert found is not None
    assert first < found < first + worker_metrics.PORTS


@pytest.mark.parametrize(
    ("named", "expected"), [("", None), (" 9470 ", 9470), ("0", 0), ("http", None), ("70000", None)]
)
def test_the_port_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, named: str, expected: int | None) -> None:
    monkeypatch.setenv(setup.PORT, named)
    assert setup.port() == expected


def test_unknown_error_codes_are_counted_as_other(registry: CollectorRegistry) -> None:
    with hooks.delivery(JOB, "task-1", {}):
        for code in ("rate_limit_exceeded", "http_503", "prompt_of_mr_x", "http_999", "sk-test-a", ""):
            hooks.called(attempt(), Throttled(status=429, code=code))
    scrape = Scrape(generate_latest(registry).decode())
    for outcome, count in (("rate_limit_exceeded", 1), ("http_503", 1), ("other", 4)):
        assert scrape.sum("overnight_call_seconds_count", outcome=outcome) == count
    assert "mr_x" not in generate_latest(registry).decode()
