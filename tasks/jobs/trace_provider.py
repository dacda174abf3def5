"""OpenTelemetry's tracer provider of this process, and the span over a submission.

Imported only if the environment asks for traces (trace_context.py).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind

#: Seconds that sending spans may take, unless OTEL_EXPORTER_OTLP_TIMEOUT sets another value: a command must not hang at
#: its end because the collector is away.
PATIENCE: Final = 3.0


def start(service: str, exporter: SpanExporter | None = None) -> None:
    """Make this process's provider of traces, unless the person's own set-up has made one (opentelemetry-instrument).

    Spans go to the OTLP endpoint that the environment names, or to `exporter`.
    """
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    if exporter is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        # A command must not hang at its end because the collector is away.
        exporter = OTLPSpanExporter(timeout=float(os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT") or PATIENCE))
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win, as everywhere.
    provider = TracerProvider(resource=Resource({SERVICE_NAME: service}).merge(Resource.create()))
    if "unknown_service" in str(provider.resource.attributes.get(SERVICE_NAME)):
        provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def stop() -> None:
    """Send the spans that have not been sent yet."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


def headers() -> dict[str, str]:
    """The current trace context as W3C headers (traceparent, tracestate)."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


@contextmanager
def submission(workflow: str) -> Iterator[str]:
    """A span over the submission of a batch, and the `traceparent` of what follows from it."""
    start("overnight")
    tracer = trace.get_tracer("overnight")
    with tracer.start_as_current_span(f"submit {workflow}", kind=SpanKind.PRODUCER) as span:
        span.set_attribute("overnight.workflow", workflow)
        yield headers().get("traceparent", "")
