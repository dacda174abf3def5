"""Whether this process is traced, and how a trace gets from a submission to its jobs.

OpenTelemetry (the extra `otel`) is imported only if the environment asks for traces.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Final

log = logging.getLogger(__name__)

#: If one of these variables is set, the process is traced.
_ASKING: Final = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

#: Lines: the jobs of a batch up to this size are in the trace of its submission.
JOINED: Final = 1_000

#: The header that links a job to its submission, in batches too large to be one trace.
LINK: Final = "overnight-link"


def traced() -> bool:
    """Whether the environment asks for traces, as OpenTelemetry's own SDKs take it."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(os.environ.get(name) for name in _ASKING) and _installed()


@cache
def _installed() -> bool:
    """Whether OpenTelemetry is installed. Logs a warning once if it isn't."""
    try:
        found = find_spec("opentelemetry.sdk") and find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:  # one of its parent packages is missing
        found = None
    if found is None:
        log.warning("OTEL_… asks for traces, and OpenTelemetry is not installed: pip install 'overnight[otel]'")
    return found is not None


def headers() -> dict[str, str]:
    """The current trace context, for a message's headers; empty if nothing is traced."""
    if not traced():
        return {}
    from tasks.jobs.trace_provider import headers as current  # noqa: PLC0415 - what only a traced process needs

    return current()


@contextmanager
def submission(workflow: str) -> Iterator[str]:
    """A span over the submission of a batch. Yields the `traceparent` of its jobs; '' if nothing is traced."""
    if not traced():
        yield ""
        return
    from tasks.jobs.trace_provider import submission as span  # noqa: PLC0415 - as above

    with span(workflow) as parent:
        yield parent


def of_batch(parent: str, total: int) -> dict[str, str]:
    """The trace headers of a batch's messages. In a large batch each job has its own trace, linked to this one."""
    if not parent:
        return {}
    return {"traceparent": parent} if total <= JOINED else {LINK: parent}
