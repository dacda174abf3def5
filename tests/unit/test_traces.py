"""Which trace a job belongs to. Without a request for traces, OpenTelemetry is not imported."""

import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tasks.jobs import hooks, trace_context
from tasks.jobs.job import Job, Line
from tasks.jobs.store import Outcome
from tasks.monitoring.traces import Tracer, origin
from workers.config.settings import Settings
from workers.request import Snooze

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def parent_of(headers: dict[str, str], job: str = "batch_1:7:0") -> tuple[str, list[str]]:
    """The trace of a delivery's span, and the traces that it links to."""
    context, links = origin(headers, job)
    found = trace.get_current_span(context).get_span_context()
    return f"{found.trace_id:032x}", [f"{link.context.trace_id:032x}" for link in links]


def test_a_small_batch_is_one_trace() -> None:
    headers = trace_context.of_batch(PARENT, 1_000)
    assert parent_of(headers) == ("0af7651916cd43dd8448eb211c80319c", [])


def test_each_job_of_a_large_batch_has_its_own_trace() -> None:
    headers = trace_context.of_batch(PARENT, 1_001)
    first, links = parent_of(headers)
    assert links == ["0af7651916cd43dd8448eb211c80319c"]
    assert parent_of(headers)[0] == first != "0af7651916cd43dd8448eb211c80319c"
    assert parent_of(headers, "batch_1:8:0")[0] != first


@pytest.mark.parametrize("header", ["", "nonsense", "00-00000000000000000000000000000000-b7ad6b7169203331-01"])
def test_a_malformed_header_starts_a_new_trace(header: str) -> None:
    for name in ("traceparent", trace_context.LINK):
        context, links = origin({name: header, "id": 7}, "job")  # type: ignore[dict-item]
        assert not trace.get_current_span(context).get_span_context().is_valid
        assert links == []
    assert origin({}, "job") == (Context(), [])


def test_a_snoozed_job_continues_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(hooks, "listeners", (Tracer(Settings(), provider),))
    job = Job(Line("a", "/v1/chat/completions", {"model": "small"}), "task-1", "nightly", "batch_1", 7)
    headers = trace_context.of_batch(PARENT, 5_000)
    with pytest.raises(Snooze), hooks.delivery(job, "task-1", headers):
        raise Snooze(3.0, "requests a minute at acme/small")
    with hooks.delivery(job, "task-1", headers):
        hooks.ended(Outcome(ok=True, line=b"{}", cost=2_000_000))
    first, second = spans.get_finished_spans()
    assert first.get_span_context().trace_id == second.get_span_context().trace_id
    assert dict(first.events[0].attributes or {}) == {
        "overnight.seconds": 3.0,
        "overnight.reason": "requests a minute at acme/small",
    }
    assert "overnight.outcome" not in (first.attributes or {})
    assert (second.attributes or {})["overnight.cost_usd"] == 0.002


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_SERVICE_NAME": "mine"}, False),
    ],
)
def test_opentelemetrys_variables_turn_traces_on(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: bool
) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert trace_context.traced() is expected


def test_nothing_is_imported_without_a_request_for_traces() -> None:
    # redis-py imports OpenTelemetry itself if it is installed.
    names = "('tasks.monitoring.traces', 'tasks.jobs.trace_provider', 'prometheus_client', 'flower', 'rich')"
    script = (
        "import sys; import tasks.jobs.messages, tasks.monitoring.setup, tasks.batches.submit, tasks.batches.feed;"
        f"print([name for name in {names} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
