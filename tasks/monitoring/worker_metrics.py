"""What one worker process counts: admissions and denials, latencies of calls, jobs and snoozes.

Counted only if OVERNIGHT_METRICS_PORT (or `--metrics-port`) is set, and served at that port. The counts start with the
process. Counts that must agree with the provider's bill come from the ledger (metrics.py).
"""

import logging
import os
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

from limits.reservation import Admitted, Denied
from limits.reservation import Answer as Admission
from tasks.jobs.attempt import Attempt
from tasks.jobs.hooks import Listener, Observed
from tasks.jobs.store import Outcome
from tasks.monitoring.labels import OTHER, Labels
from tasks.monitoring.limits import targets
from workers.config.settings import Settings
from workers.providers.answer import Answer
from workers.providers.codes import listed
from workers.providers.errors import ProviderError
from workers.request import Snooze

log = logging.getLogger(__name__)

#: The folder in which prometheus_client shares counts between processes; setup.py sets it for prefork pools.
SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"

#: Ports that are tried from the first on, since the worker processes of one machine share an environment.
PORTS: Final = 64

#: Seconds of a call: models answer within tenths of a second, or after minutes of thinking.
_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0)


class Meter(Listener):
    """Counts what this process's jobs report."""

    def __init__(self, registry: CollectorRegistry = REGISTRY, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self.workflows = Labels(settings.workflows)
        self.models = Labels([f"{provider}/{model}" for provider, model in targets(settings)])
        target = ("provider", "model")
        self.admissions = Counter(
            "overnight_admissions_total",
            "Answers of the admission, with the reason of a denial; 'later': admitted, to be sent a moment later",
            ("workflow", "answer", "reason"),
            registry=registry,
        )
        self.calls = Histogram(
            "overnight_call_seconds",
            "Seconds from sending a request to its last byte or failure; outcome: ok, the error's code, or other",
            (*target, "outcome"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.jobs = Counter(
            "overnight_jobs_total", "Jobs that ended in this worker", ("workflow", "outcome"), registry=registry
        )
        self.snoozes = Counter(
            "overnight_snoozes_total", "Deliveries whose job was snoozed", ("workflow",), registry=registry
        )
        self._children: dict[tuple[str, ...], Any] = {}

    def admitted(self, delivery: Observed, attempt: Attempt, answer: Admission) -> None:
        """Count an admission's answer."""
        del attempt
        match answer:
            case Admitted():
                name, reason = "admitted", "later" if answer.wait > 0 else ""
            case Denied():
                name, reason = "denied", answer.reason
            case _:
                name, reason = "impossible", answer.dimension
        self._child(self.admissions, self._workflow(delivery), name, reason).inc()

    def called(self, delivery: Observed, attempt: Attempt, seconds: float, end: Answer | ProviderError) -> None:
        """Record a call's seconds, with its trace as the exemplar if it is traced."""
        outcome = "ok" if isinstance(end, Answer) else listed(end.code)
        exemplar = {"trace_id": delivery.trace} if delivery.trace else None
        route = attempt.route
        model = route.model if self.models.has(route.target) else OTHER
        self._child(self.calls, route.provider, model, outcome).observe(seconds, exemplar)

    def ended(self, delivery: Observed, outcome: Outcome) -> None:
        """Count a finished job."""
        self._child(self.jobs, self._workflow(delivery), "completed" if outcome.ok else "failed").inc()

    def left(self, delivery: Observed, error: BaseException | None) -> None:
        """Count a snooze."""
        if isinstance(error, Snooze):
            self._child(self.snoozes, self._workflow(delivery)).inc()

    def _workflow(self, delivery: Observed) -> str:
        return self.workflows.of(delivery.job.workflow)

    def _child(self, metric: Counter | Histogram, *labels: str) -> Any:
        """A metric's child, without the lock and the checks of `labels()`."""
        name = (metric._name, *labels)  # noqa: SLF001 - has no public name
        found = self._children.get(name)
        if found is None:
            found = self._children[name] = metric.labels(*labels)
        return found


def serve(address: str, port: int) -> int | None:
    """Serve this worker's counts at `port` or the next free one. Returns that port, None if none is free."""
    registry = REGISTRY
    if SHARED in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    for each in range(port, port + PORTS) if port else (0,):
        try:
            server, _ = start_http_server(each, address, registry)
        except OSError:
            continue
        return int(server.server_port)
    return None
