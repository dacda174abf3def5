"""OpenTelemetry traces by the conventions for generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/).

    submit IN.jsonl ─┬─ job ── chat small        one span a delivery, one a call under it
                     └─ job ─┬ chat small        a 429, then …
                             └ chat small        … the answer

A job's spans belong to one trace, from its submission to its settlement, across every snooze and worker: the
trace's context travels in the batch's record and in the message's headers. In a batch of more than `JOINED` lines
(tasks/jobs/trace_context.py) each job has its own trace, linked to the submission's: nothing shows a million spans.

Spans hold names, counts, codes and times. They never hold a prompt, an answer, or a provider's words.
"""

import hashlib
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode

from limits.budget import NANO
from limits.reservation import Admitted, Denied
from limits.reservation import Answer as Admission
from tasks.jobs.attempt import Attempt
from tasks.jobs.hooks import Listener, Observed
from tasks.jobs.store import Outcome
from tasks.jobs.trace_context import LINK
from workers.config.settings import Settings
from workers.providers.answer import Answer
from workers.providers.errors import ProviderError
from workers.request import Snooze

#: API -> `gen_ai.provider.name`.
_PROVIDERS: Final = {"openai": "openai", "azure": "azure.ai.openai", "anthropic": "anthropic"}

#: URL -> `gen_ai.operation.name`; all others are "chat".
_OPERATIONS: Final = {"/v1/embeddings": "embeddings"}


class Tracer(Listener):
    """Makes a span for each delivery and each call."""

    def __init__(self, settings: Settings, provider: trace.TracerProvider | None = None) -> None:
        self.tracer = trace.get_tracer("overnight", tracer_provider=provider)
        self.settings = settings

    def begun(self, delivery: Observed) -> None:
        """Start the delivery's span, in its job's trace."""
        job = delivery.job
        parent, links = origin(delivery.headers, job.id)
        span = self.tracer.start_span(
            f"job {job.workflow}",
            parent,
            SpanKind.CONSUMER,
            attributes={
                "messaging.system": "celery",
                "messaging.operation.type": "process",
                "messaging.destination.name": f"workflow.{job.workflow}",
                "messaging.message.id": delivery.task_id,
                "overnight.workflow": job.workflow,
                "overnight.batch": job.batch or "",
                "overnight.line": job.number,
                "overnight.round": job.round,
            },
            links=links,
        )
        delivery.span = span
        delivery.trace = trace.format_trace_id(span.get_span_context().trace_id)

    def admitted(self, delivery: Observed, attempt: Attempt, answer: Admission) -> None:
        """Add the admission's answer to the delivery's span as an event."""
        match answer:
            case Admitted():
                attributes = {"answer": "admitted", "wait": answer.wait, "target": attempt.route.target}
            case Denied():
                attributes = {"answer": "denied", "reason": answer.reason, "subject": answer.subject}
            case _:
                attributes = {"answer": "impossible", "reason": answer.dimension, "subject": answer.subject}
        delivery.span.add_event("admission", {f"overnight.{key}": value for key, value in attributes.items()})

    def called(self, delivery: Observed, attempt: Attempt, seconds: float, end: Answer | ProviderError) -> None:
        """Make a call's span, once the call has ended."""
        route, url = attempt.route, attempt.job.line.url
        operation = _OPERATIONS.get(url, "chat")
        settings = self.settings.providers[route.provider]
        address = urlsplit(settings.base_url)
        now = time.time_ns()
        span = self.tracer.start_span(
            f"{operation} {route.model}",
            trace.set_span_in_context(delivery.span, Context()),
            SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": _PROVIDERS.get(settings.api, settings.api),
                "gen_ai.request.model": route.model,
                "server.address": address.hostname or "",
                "server.port": address.port or (443 if address.scheme == "https" else 80),
                "overnight.provider": route.provider,
                "overnight.attempt": attempt.number,
            },
            start_time=now - round(seconds * NANO),
        )
        if isinstance(end, Answer):
            span.set_attributes(answered(end))
        else:
            span.set_attribute("error.type", end.code or type(end).__name__)
            if end.status is not None:
                span.set_attribute("http.response.status_code", end.status)
            span.set_status(Status(StatusCode.ERROR))
        span.end(now)

    def ended(self, delivery: Observed, outcome: Outcome) -> None:
        """Add the job's outcome and cost to the span of its last delivery."""
        delivery.span.set_attributes(
            {
                "overnight.outcome": "completed" if outcome.ok else "failed",
                "overnight.cost_usd": outcome.cost / NANO,
                "overnight.calls": delivery.calls,
            }
        )
        if not outcome.ok:
            delivery.span.set_status(Status(StatusCode.ERROR))

    def left(self, delivery: Observed, error: BaseException | None) -> None:
        """End the delivery's span."""
        if isinstance(error, Snooze):
            delivery.span.add_event("snooze", {"overnight.seconds": error.seconds, "overnight.reason": error.reason})
        elif error is not None:
            delivery.span.set_attribute("error.type", type(error).__name__)
            delivery.span.set_status(Status(StatusCode.ERROR))
        delivery.span.end()


def answered(answer: Answer) -> dict[str, Any]:
    """The attributes that the conventions define for an answer."""
    found: dict[str, Any] = {}
    body = answer.body if isinstance(answer.body, dict) else {}
    for key, name in (("id", "gen_ai.response.id"), ("model", "gen_ai.response.model")):
        if isinstance(body.get(key), str):
            found[name] = body[key]
    choices = body.get("choices")
    reasons = [each.get("finish_reason") for each in choices if isinstance(each, dict)] if choices else []
    reasons = [reason for reason in [*reasons, body.get("stop_reason")] if isinstance(reason, str)]
    if reasons:
        found["gen_ai.response.finish_reasons"] = reasons
    if answer.usage is not None:
        found["gen_ai.usage.input_tokens"] = answer.usage.input
        found["gen_ai.usage.output_tokens"] = answer.usage.output
    return found


def origin(headers: Mapping[str, Any], job: str) -> tuple[Context, list[Link]]:
    """The parent context of a delivery's span, and its links, from its message's headers."""
    carrier = {key: value for key, value in headers.items() if isinstance(key, str) and isinstance(value, str)}
    if LINK not in carrier:
        return propagate.extract(carrier, Context()), []
    linked = propagate.extract({"traceparent": carrier[LINK]}, Context())
    submission = trace.get_current_span(linked).get_span_context()
    if not submission.is_valid:
        return Context(), []
    # Derived from the job's id, so that every delivery of a job finds the same trace.
    digest = hashlib.blake2b(f"{submission.trace_id:x} {job}".encode(), digest_size=24).digest()
    root = SpanContext(
        trace_id=int.from_bytes(digest[:16]),
        span_id=int.from_bytes(digest[16:]),
        is_remote=True,
        trace_flags=submission.trace_flags,
    )
    return trace.set_span_in_context(NonRecordingSpan(root), Context()), [Link(submission)]
