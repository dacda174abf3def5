"""A server's traces: one span for a live call, in the trace that its client has begun, and one for each attempt."""

from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from tasks.monitoring.traces import Tracer
from tasks.server.errors import ApiError


class LiveTracer(Tracer):
    """Makes a span for each live call and each attempt."""

    def begun(self, delivery: Any) -> None:
        """Start the call's span."""
        job = delivery.job
        span = self.tracer.start_span(
            f"POST {job.line.url}",
            propagate.extract(dict(delivery.headers), Context()),
            SpanKind.SERVER,
            attributes={
                "http.request.method": "POST",
                "http.route": job.line.url,
                "overnight.workflow": job.workflow,
                "overnight.lane": "live",
            },
        )
        delivery.span = span
        delivery.trace = trace.format_trace_id(span.get_span_context().trace_id)

    def left(self, delivery: Any, error: BaseException | None) -> None:
        """End the call's span."""
        delivery.span.set_attribute("overnight.calls", delivery.calls)
        if isinstance(error, ApiError):
            delivery.span.set_attribute("http.response.status_code", error.status)
            delivery.span.set_attribute("error.type", error.code or str(error.status))
        elif error is not None:
            delivery.span.set_attribute("error.type", type(error).__name__)
        if error is not None:
            delivery.span.set_status(Status(StatusCode.ERROR))
        delivery.span.end()
